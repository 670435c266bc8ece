//! Requests to one repository at one place: credentials, redirects, answers.

use std::{io, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Response, StatusCode, Uri, header,
};
use http_body_util::{BodyExt, Empty, Full};
use hyper::body::Incoming;
use serde::Deserialize;

use super::{
    Credentials, RegistryError,
    auth::{Challenge, TokenAnswer, TokenRequest, basic, secret},
    connect::Body,
    endpoint::Endpoint,
    error::ConnectError,
    url,
};
use crate::store::Inner;

const MAX_REDIRECTS: usize = 10;
/// Bytes of an error or token answer.
const MAX_SMALL: u64 = 1 << 20;
/// An upload slower than this counts as stuck, in bytes a second.
const SLOWEST: u64 = 10 << 10;

/// Makes a request's body, each time it has to be sent; with its length.
pub(super) type MakeBody<'a> = &'a (dyn Fn() -> io::Result<(Body, u64)> + Send + Sync);

/// One request.
pub(super) struct Ask<'a> {
    pub(super) method: Method,
    pub(super) url: String,
    pub(super) headers: Vec<(HeaderName, HeaderValue)>,
    pub(super) body: Option<MakeBody<'a>>,
}

impl<'a> Ask<'a> {
    pub(super) fn new(method: Method, url: impl Into<String>) -> Self {
        Self { method, url: url.into(), headers: Vec::new(), body: None }
    }

    pub(super) fn header(mut self, name: HeaderName, value: &str) -> Self {
        if let Ok(value) = HeaderValue::from_str(value) {
            self.headers.push((name, value));
        }
        self
    }

    pub(super) fn body(mut self, body: MakeBody<'a>) -> Self {
        self.body = Some(body);
        self
    }
}

/// What came back, and from where.
pub(super) struct Answer {
    pub(super) url: Uri,
    pub(super) response: Response<Incoming>,
}

impl Answer {
    pub(super) fn status(&self) -> StatusCode {
        self.response.status()
    }

    pub(super) fn header(&self, name: HeaderName) -> Option<&str> {
        self.response.headers().get(name)?.to_str().ok()
    }

    /// Where to go on.
    pub(super) fn location(&self) -> Result<String, RegistryError> {
        match self.header(header::LOCATION) {
            Some(location) => url::resolve(&self.url, location),
            None => Err(RegistryError::Protocol {
                url: self.url.to_string(),
                reason: "it gives no Location".into(),
            }),
        }
    }
}

/// One repository at one place.
pub(super) struct Session {
    pub(super) inner: Arc<Inner>,
    pub(super) endpoint: Endpoint,
    /// Path within the registry.
    pub(super) repository: String,
    scopes: Vec<String>,
    who: Credentials,
    authorization: tokio::sync::Mutex<Option<HeaderValue>>,
}

impl Session {
    pub(super) fn new(
        inner: &Arc<Inner>,
        endpoint: Endpoint,
        repository: &str,
        scopes: Vec<String>,
        who: &Credentials,
    ) -> Self {
        let who = if endpoint.mirror { Credentials::Anonymous } else { who.clone() };
        let known = match &who {
            Credentials::RegistryToken(token) => secret(&format!("Bearer {token}")),
            _ => None,
        };
        Self {
            inner: Arc::clone(inner),
            endpoint,
            repository: repository.into(),
            scopes,
            who,
            authorization: tokio::sync::Mutex::new(known),
        }
    }

    /// Asks whether a registry is there and settles credentials. The token server's answer to a
    /// login is returned.
    pub(super) async fn hello(
        &self,
        for_login: bool,
    ) -> Result<Option<TokenAnswer>, RegistryError> {
        let url = format!("{}/v2/", self.endpoint.base);
        let answer = self.once(&Ask::new(Method::GET, url.as_str()), None).await?;
        match answer.status() {
            StatusCode::OK => Ok(None),
            StatusCode::UNAUTHORIZED => {
                let token = self.authorize(&answer, for_login).await?;
                if for_login {
                    let known = self.authorization.lock().await.clone();
                    let again = self.once(&Ask::new(Method::GET, url), known).await?;
                    if !again.status().is_success() {
                        return Err(self.failure(again).await);
                    }
                }
                Ok(token)
            }
            StatusCode::NOT_FOUND => Err(RegistryError::Protocol {
                url,
                reason: "it is no registry with API version 2".into(),
            }),
            _ => Err(self.failure(answer).await),
        }
    }

    pub(super) fn url(&self, rest: &str) -> String {
        format!("{}/v2/{}/{rest}", self.endpoint.base, self.repository)
    }

    /// Sends a request, renewing credentials once and following redirects of GET and HEAD.
    pub(super) async fn send(&self, mut ask: Ask<'_>) -> Result<Answer, RegistryError> {
        let mut renewed = false;
        let mut redirects = 0;
        loop {
            let ours = self.is_ours(&ask.url);
            let known = if ours { self.authorization.lock().await.clone() } else { None };
            let answer = self.once(&ask, known).await?;
            if answer.status() == StatusCode::UNAUTHORIZED && ours && !renewed {
                renewed = true;
                if Challenge::of(answer.response.headers()).is_some() {
                    self.authorize(&answer, false).await?;
                    continue;
                }
            }
            let follow = answer.status().is_redirection()
                && matches!(ask.method, Method::GET | Method::HEAD);
            if !follow || answer.status() == StatusCode::NOT_MODIFIED {
                return Ok(answer);
            }
            redirects += 1;
            let target = answer.location()?;
            let bad = |reason: &str| RegistryError::Protocol {
                url: answer.url.to_string(),
                reason: reason.into(),
            };
            if redirects > MAX_REDIRECTS {
                return Err(bad("it redirects in circles"));
            }
            if ask.url.starts_with("https:")
                && target.starts_with("http:")
                && !self.may_be_plain(&target)
            {
                return Err(bad("it redirects to an unencrypted address"));
            }
            ask.url = target;
        }
    }

    /// The whole body of a small answer.
    pub(super) async fn bytes(&self, answer: Answer, limit: u64) -> Result<Vec<u8>, RegistryError> {
        let url = answer.url.to_string();
        let mut body = answer.response.into_body();
        let mut bytes = Vec::new();
        while let Some(chunk) = self.chunk(&mut body, &url).await? {
            if bytes.len() as u64 + chunk.len() as u64 > limit {
                return Err(RegistryError::TooLarge { url, limit });
            }
            bytes.extend_from_slice(&chunk);
        }
        Ok(bytes)
    }

    /// The next piece of a body.
    pub(super) async fn chunk(
        &self,
        body: &mut Incoming,
        url: &str,
    ) -> Result<Option<Bytes>, RegistryError> {
        loop {
            let frame = tokio::time::timeout(self.inner.settings.retry.idle, body.frame()).await;
            match frame.map_err(|_| RegistryError::Timeout(url.into()))? {
                None => return Ok(None),
                Some(Err(error)) => {
                    return Err(RegistryError::Broken { url: url.into(), source: error.into() });
                }
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        return Ok(Some(data));
                    }
                }
            }
        }
    }

    /// The error that an answer means.
    pub(super) async fn failure(&self, answer: Answer) -> RegistryError {
        let (url, status) = (answer.url.to_string(), answer.status());
        let body = self.bytes(answer, MAX_SMALL).await.unwrap_or_default();
        let message = message(&body)
            .unwrap_or_else(|| status.canonical_reason().unwrap_or("no reason").into());
        match status {
            StatusCode::UNAUTHORIZED => RegistryError::Unauthorized { message },
            _ => {
                RegistryError::Status { url: without_query(&url), status: status.as_u16(), message }
            }
        }
    }

    async fn once(
        &self,
        ask: &Ask<'_>,
        authorization: Option<HeaderValue>,
    ) -> Result<Answer, RegistryError> {
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| {
            RegistryError::Unreachable { url: without_query(&ask.url), source }
        };
        let uri: Uri = ask.url.parse().map_err(|e: http::uri::InvalidUri| unreachable(e.into()))?;
        let mut request = Request::builder().method(ask.method.clone()).uri(uri.clone());
        request = request.header(header::USER_AGENT, concat!("skep/", env!("CARGO_PKG_VERSION")));
        for (name, value) in &ask.headers {
            request = request.header(name, value);
        }
        if let Some(value) = authorization {
            request = request.header(header::AUTHORIZATION, value);
        }
        let mut limit = self.inner.settings.retry.idle;
        let body = match ask.body {
            Some(make) => {
                let (body, length) = make().map_err(RegistryError::Scratch)?;
                request = request.header(header::CONTENT_LENGTH, length);
                limit += Duration::from_secs(length / SLOWEST);
                body
            }
            None if matches!(ask.method, Method::POST | Method::PUT | Method::PATCH) => {
                request = request.header(header::CONTENT_LENGTH, 0);
                empty()
            }
            None => empty(),
        };
        let request = request.body(body).map_err(|e| unreachable(e.into()))?;
        let registry = &self.inner.registry;
        let client =
            if self.trusts_anyone(&ask.url) { &registry.unverified } else { &registry.verified };
        let response = tokio::time::timeout(limit, client.request(request)).await;
        let response = response.map_err(|_| RegistryError::Timeout(without_query(&ask.url)))?;
        let response = response.map_err(|error| unreachable(cause(error)))?;
        Ok(Answer { url: uri, response })
    }

    async fn authorize(
        &self,
        answer: &Answer,
        for_login: bool,
    ) -> Result<Option<TokenAnswer>, RegistryError> {
        let headers: &HeaderMap = answer.response.headers();
        match Challenge::of(headers) {
            Some(Challenge::Basic) => {
                let value = basic(&self.who).ok_or_else(|| RegistryError::Unauthorized {
                    message: "authentication required".into(),
                })?;
                if !self.endpoint.is_private() && self.endpoint.verify {
                    return Err(RegistryError::Plain(self.endpoint.base.clone()));
                }
                *self.authorization.lock().await = Some(value);
                Ok(None)
            }
            Some(Challenge::Bearer { realm, service, scope }) => {
                let mut scopes = self.scopes.clone();
                for wanted in scope.iter().flat_map(|scope| scope.split(' ')) {
                    if !scopes.iter().any(|known| known == wanted) && !wanted.is_empty() {
                        scopes.push(wanted.into());
                    }
                }
                let token = self.token(&realm, service.as_deref(), &scopes, for_login).await?;
                let protocol = || RegistryError::Protocol {
                    url: realm.clone(),
                    reason: "it gives no token".into(),
                };
                *self.authorization.lock().await = Some(token.header().ok_or_else(protocol)?);
                Ok(Some(token))
            }
            None => Err(RegistryError::Unauthorized { message: "authentication required".into() }),
        }
    }

    async fn token(
        &self,
        realm: &str,
        service: Option<&str>,
        scopes: &[String],
        for_login: bool,
    ) -> Result<TokenAnswer, RegistryError> {
        let plain = self.may_be_plain(realm);
        let answer =
            match Challenge::token_request(realm, service, scopes, &self.who, plain, for_login)? {
                TokenRequest::Get { url, basic: with } => {
                    self.once(
                        &Ask::new(Method::GET, url),
                        if with { basic(&self.who) } else { None },
                    )
                    .await?
                }
                TokenRequest::Post { url, form } => {
                    let body = || Ok((full(form.clone().into_bytes()), form.len() as u64));
                    let ask = Ask::new(Method::POST, url)
                        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
                        .body(&body);
                    self.once(&ask, None).await?
                }
            };
        if !answer.status().is_success() {
            return Err(self.failure(answer).await);
        }
        let bytes = self.bytes(answer, MAX_SMALL).await?;
        serde_json::from_slice(&bytes).map_err(|e| RegistryError::Protocol {
            url: realm.into(),
            reason: format!("its token is malformed: {e}"),
        })
    }

    /// The registry itself, not where it redirects to: only it gets the credentials.
    fn is_ours(&self, url: &str) -> bool {
        url.strip_prefix(self.endpoint.base.as_str()).is_some_and(|rest| rest.starts_with('/'))
    }

    fn trusts_anyone(&self, url: &str) -> bool {
        (self.is_ours(url) && !self.endpoint.verify) || self.may_be_plain(url)
    }

    /// An address whose traffic the owner of this host has allowed to be unprotected.
    fn may_be_plain(&self, url: &str) -> bool {
        let uri: Option<Uri> = url.parse().ok();
        let authority = uri.as_ref().and_then(Uri::authority).map(|a| a.as_str().to_owned());
        authority.is_some_and(|authority| self.inner.registry.rules().is_insecure(&authority, &[]))
    }
}

/// Why a request got no answer. That the client library was connecting at the time is in the message
/// around it.
fn cause(error: hyper_util::client::legacy::Error) -> Box<dyn std::error::Error + Send + Sync> {
    if !error.is_connect() {
        return error.into();
    }
    let mut source = std::error::Error::source(&error);
    while let Some(inner) = source {
        if let Some(known) = inner.downcast_ref::<io::Error>() {
            return Box::new(ConnectError::new(known));
        }
        source = inner.source();
    }
    error.into()
}

pub(super) fn empty() -> Body {
    Empty::new().map_err(|never| match never {}).boxed()
}

pub(super) fn full(bytes: Vec<u8>) -> Body {
    Full::new(Bytes::from(bytes)).map_err(|never| match never {}).boxed()
}

/// Queries carry tokens and signatures that do not belong into messages.
fn without_query(url: &str) -> String {
    url.split('?').next().unwrap_or(url).to_owned()
}

/// The words of a registry's error answer.
fn message(body: &[u8]) -> Option<String> {
    #[derive(Deserialize)]
    struct Errors {
        #[serde(default)]
        errors: Vec<One>,
        #[serde(default)]
        details: Option<String>,
    }
    #[derive(Deserialize)]
    struct One {
        #[serde(default)]
        message: String,
        #[serde(default)]
        code: String,
    }
    let errors: Errors = serde_json::from_slice(body).ok()?;
    let texts: Vec<String> = errors
        .errors
        .into_iter()
        .map(|e| if e.message.is_empty() { e.code } else { e.message })
        .chain(errors.details)
        .collect();
    (!texts.is_empty()).then(|| texts.join("; "))
}
