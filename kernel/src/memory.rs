//! This process's memory.

/// Gives memory that is free back to the kernel, after work that took much of it for once: glibc's allocator
/// keeps it otherwise, as large freed blocks lie between small ones that are in use. With other C libraries
/// nothing happens.
#[allow(unsafe_code)]
pub fn give_back() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim(3) has no preconditions, and is safe to call from any thread.
    unsafe {
        libc::malloc_trim(0);
    }
}
