//! The memory of the calling process.

/// Gives memory that was freed back to the kernel, which the allocator keeps for later otherwise; answers
/// whether there was some. Takes milliseconds: for after work that needed far more than what stays.
pub fn give_back() -> bool {
    #[cfg(target_env = "gnu")]
    #[allow(unsafe_code)]
    // SAFETY: malloc_trim(3) may be called at any time, by any thread.
    let gave = unsafe { libc::malloc_trim(0) } == 1;
    // Other C libraries keep little and have no such call.
    #[cfg(not(target_env = "gnu"))]
    let gave = false;
    gave
}

#[cfg(test)]
mod tests {
    use super::*;

    /// With many small pieces freed, there is something to give back.
    #[test]
    #[cfg(target_env = "gnu")]
    fn freed_memory_is_given_back() {
        let pieces: Vec<_> = (0..100_000).map(|number| vec![number; 25]).collect();
        drop(pieces);
        assert!(give_back());
    }
}
