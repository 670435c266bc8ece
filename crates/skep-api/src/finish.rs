use crate::http::{ApiError, ApiResult};

/// Runs a change to its end even if its client leaves in the middle: hyper drops a handler when the
/// connection closes, and half a removal is worse than none.
pub(crate) async fn finish<T, E>(
    change: impl Future<Output = Result<T, E>> + Send + 'static,
) -> ApiResult<T>
where
    T: Send + 'static,
    E: Into<ApiError> + Send + 'static,
{
    match tokio::spawn(change).await {
        Ok(result) => result.map_err(Into::into),
        Err(error) => {
            Err(ApiError::internal(format!("the operation ended without an answer: {error}")))
        }
    }
}
