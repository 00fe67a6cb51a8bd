//! Errors in the form of the API: `kind: Status`, a machine's reason, a code, a message.
//!
//! Messages and reasons are those of the real server (apimachinery's `api/errors`).

use std::fmt;

use axum::{
    body::Body,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use serde_json::{Value, json};

use super::resource::Resource;

/// Why a request is not served.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The HTTP status.
    pub code: u16,
    /// The reason in CamelCase; empty where the server gives none.
    pub reason: &'static str,
    /// What happened, for people.
    pub message: String,
    details: Vec<(&'static str, Value)>,
    continue_token: Option<String>,
}

/// The detail that is also sent as a header.
const RETRY_AFTER: &str = "retryAfterSeconds";

// === impl Failure ===

impl Failure {
    fn new(code: u16, reason: &'static str, message: impl Into<String>) -> Self {
        Self {
            code,
            reason,
            message: message.into(),
            details: Vec::new(),
            continue_token: None,
        }
    }

    pub(super) fn bad_request(message: impl Into<String>) -> Self {
        Self::new(400, "BadRequest", message)
    }

    pub(super) fn unauthorized() -> Self {
        Self::new(401, "Unauthorized", "Unauthorized")
    }

    pub(super) fn unknown_path() -> Self {
        Self::new(
            404,
            "NotFound",
            "the server could not find the requested resource",
        )
    }

    pub(super) fn not_found(resource: &Resource, name: &str) -> Self {
        Self::new(404, "NotFound", format!("{resource} {name:?} not found")).about(resource, name)
    }

    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            405,
            "MethodNotAllowed",
            "the server does not allow this method on the requested resource",
        )
    }

    pub(super) fn not_acceptable() -> Self {
        Self::new(
            406,
            "NotAcceptable",
            "only the following media types are accepted: application/json",
        )
    }

    pub(super) fn already_exists(resource: &Resource, name: &str) -> Self {
        let message = format!("{resource} {name:?} already exists");
        Self::new(409, "AlreadyExists", message).about(resource, name)
    }

    pub(super) fn conflict(resource: &Resource, name: &str, why: &str) -> Self {
        let message = format!("Operation cannot be fulfilled on {resource} {name:?}: {why}");
        Self::new(409, "Conflict", message).about(resource, name)
    }

    pub(super) fn expired(message: impl Into<String>) -> Self {
        Self::new(410, "Expired", message)
    }

    pub(super) fn unsupported_media_type(offered: &[&str]) -> Self {
        let message = format!(
            "the body of the request was in an unknown format - accepted media types include: {}",
            offered.join(", ")
        );
        Self::new(415, "UnsupportedMediaType", message)
    }

    pub(super) fn invalid(kind: &str, name: &str, why: &str) -> Self {
        Self::new(422, "Invalid", format!("{kind} {name:?} is invalid: {why}"))
    }

    /// The answer to a JSON patch whose operations can't be carried out.
    pub(super) fn patch_refused(why: impl fmt::Display) -> Self {
        let message =
            format!("the server rejected our request due to an error in our request: {why}");
        Self::new(422, "Invalid", message)
    }

    /// The answer to a resourceVersion from the future.
    pub(super) fn too_large(asked: u64, current: u64) -> Self {
        let message = format!("Timeout: Too large resource version: {asked}, current: {current}");
        let mut failure = Self::new(504, "Timeout", message);
        failure.details.push((
            "causes",
            json!([{"reason": "ResourceVersionTooLarge", "message": "Too large resource version"}]),
        ));
        failure.with_retry_after(1)
    }

    /// An answer that a test asked for by its code.
    pub(super) fn by_code(code: u16, retry_after: Option<u32>) -> Self {
        let (reason, message) = match code {
            401 => ("Unauthorized", "Unauthorized"),
            403 => ("Forbidden", "forbidden: a fault was asked for"),
            410 => ("Expired", "too old resource version: a fault was asked for"),
            429 => (
                "TooManyRequests",
                "the server has received too many requests and has asked us to try again later",
            ),
            500 => (
                "InternalError",
                "Internal error occurred: a fault was asked for",
            ),
            503 => (
                "ServiceUnavailable",
                "the server is currently unable to handle the request",
            ),
            504 => (
                "Timeout",
                "Timeout: request did not complete within the allotted timeout",
            ),
            _ => ("", "a fault was asked for"),
        };
        let failure = Self::new(code, reason, message);
        match retry_after {
            Some(seconds) => failure.with_retry_after(seconds),
            None => failure,
        }
    }

    /// Names the object in the details.
    pub(super) fn about(mut self, resource: &Resource, name: &str) -> Self {
        for (key, value) in [
            ("name", name),
            ("group", resource.group),
            ("kind", resource.plural),
        ] {
            if !value.is_empty() {
                self.details.push((key, value.into()));
            }
        }
        self
    }

    /// Gives a token with which the rest of a list can be had all the same.
    pub(super) fn with_continue(mut self, token: String) -> Self {
        self.continue_token = Some(token);
        self
    }

    fn with_retry_after(mut self, seconds: u32) -> Self {
        self.details.push((RETRY_AFTER, seconds.into()));
        self
    }

    /// The `Status` object.
    pub fn to_status(&self) -> Value {
        let metadata = match &self.continue_token {
            Some(token) => json!({ "continue": token }),
            None => json!({}),
        };
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": metadata,
            "status": "Failure",
            "message": self.message,
        });
        if !self.reason.is_empty() {
            status["reason"] = self.reason.into();
        }
        if !self.details.is_empty() {
            status["details"] = self.details.iter().cloned().collect();
        }
        status["code"] = self.code.into();
        status
    }
}

impl IntoResponse for Failure {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.to_status().to_string()));
        *response.status_mut() =
            StatusCode::from_u16(self.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            header::HeaderValue::from_static("application/json"),
        );
        let seconds = self.details.iter().find(|(key, _)| *key == RETRY_AFTER);
        if let Some(seconds) = seconds.and_then(|(_, value)| value.as_u64()) {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        response
    }
}
