//! Raft messages between skep's managers: service `skep.raft.v1.Raft`, unary calls `Append`, `Vote`
//! and `Snapshot`, whose messages and answers are JSON bytes.

use std::collections::HashMap;
use std::convert::Infallible;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use async_trait::async_trait;
use bytes::{Buf, BufMut};
use skep_pki::{MANAGER_SERVER_NAME, TlsHandle};
use tonic::body::Body;
use tonic::codec::{Codec, DecodeBuf, Decoder, EncodeBuf, Encoder};
use tonic::codegen::http;
use tonic::server::{Grpc, NamedService, UnaryService};
use tonic::transport::Channel;
use tonic::{Request, Response, Status};
use tower::Service;

use crate::auth::{Allowed, caller};
use crate::raft::{Member, RaftCall, RaftTransport, TransportError, serve};
use crate::shared::Shared;

/// Docker's time for one raft message.
const CALL_TIMEOUT: Duration = Duration::from_secs(2);
const SNAPSHOT_TIMEOUT: Duration = Duration::from_secs(30);
const NAME: &str = "skep.raft.v1.Raft";

fn path(call: RaftCall) -> &'static str {
    match call {
        RaftCall::Append => "/skep.raft.v1.Raft/Append",
        RaftCall::Vote => "/skep.raft.v1.Raft/Vote",
        RaftCall::Snapshot => "/skep.raft.v1.Raft/Snapshot",
    }
}

/// Bytes as they are.
#[derive(Clone, Copy, Default)]
struct Raw;

impl Codec for Raw {
    type Encode = Vec<u8>;
    type Decode = Vec<u8>;
    type Encoder = Self;
    type Decoder = Self;

    fn encoder(&mut self) -> Self {
        Self
    }

    fn decoder(&mut self) -> Self {
        Self
    }
}

impl Encoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn encode(&mut self, item: Vec<u8>, out: &mut EncodeBuf<'_>) -> Result<(), Status> {
        out.put_slice(&item);
        Ok(())
    }
}

impl Decoder for Raw {
    type Item = Vec<u8>;
    type Error = Status;

    fn decode(&mut self, bytes: &mut DecodeBuf<'_>) -> Result<Option<Vec<u8>>, Status> {
        let mut item = vec![0; bytes.remaining()];
        bytes.copy_to_slice(&mut item);
        Ok(Some(item))
    }
}

/// The server's end.
#[derive(Clone)]
pub(super) struct RaftService {
    pub shared: Arc<Shared>,
}

impl NamedService for RaftService {
    const NAME: &'static str = NAME;
}

struct Call {
    shared: Arc<Shared>,
    call: RaftCall,
}

type Pending<T> = Pin<Box<dyn Future<Output = T> + Send>>;

impl UnaryService<Vec<u8>> for Call {
    type Response = Vec<u8>;
    type Future = Pending<Result<Response<Vec<u8>>, Status>>;

    fn call(&mut self, request: Request<Vec<u8>>) -> Self::Future {
        let (shared, call) = (self.shared.clone(), self.call);
        Box::pin(async move {
            caller(&shared, &request, Allowed::Managers)?;
            let answer = serve(&shared.raft, call, request.get_ref()).await;
            answer.map(Response::new).map_err(|e| Status::invalid_argument(e.to_string()))
        })
    }
}

impl Service<http::Request<Body>> for RaftService {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Pending<Result<http::Response<Body>, Infallible>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let shared = self.shared.clone();
        let calls = [RaftCall::Append, RaftCall::Vote, RaftCall::Snapshot];
        let call = calls.into_iter().find(|call| path(*call) == request.uri().path());
        Box::pin(async move {
            Ok(match call {
                Some(call) => Grpc::new(Raw).unary(Call { shared, call }, request).await,
                None => Status::unimplemented("no such raft call").into_http(),
            })
        })
    }
}

/// The client's end: one channel per manager, with this node's certificate.
pub(crate) struct GrpcTransport {
    tls: TlsHandle,
    channels: Mutex<HashMap<String, Channel>>,
}

impl GrpcTransport {
    pub fn new(tls: TlsHandle) -> Self {
        Self { tls, channels: Mutex::default() }
    }

    async fn channel(&self, addr: &str) -> Result<Channel, TransportError> {
        let known = {
            let channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
            channels.get(addr).cloned()
        };
        if let Some(channel) = known {
            return Ok(channel);
        }
        let unreachable = |source: Box<dyn std::error::Error + Send + Sync>| {
            TransportError::Unreachable { addr: addr.to_owned(), source }
        };
        let config = self.tls.client_config().map_err(|e| unreachable(e.into()))?;
        let connected = skep_pki::connect(addr, MANAGER_SERVER_NAME, config).await;
        let channel = connected.map_err(|e| unreachable(e.into()))?;
        let mut channels = self.channels.lock().unwrap_or_else(PoisonError::into_inner);
        channels.insert(addr.to_owned(), channel.clone());
        Ok(channel)
    }
}

#[async_trait]
impl RaftTransport for GrpcTransport {
    async fn call(
        &self,
        to: &Member,
        call: RaftCall,
        message: Vec<u8>,
    ) -> Result<Vec<u8>, TransportError> {
        let addr = to.addr.clone();
        let failed = |source: Box<dyn std::error::Error + Send + Sync>| TransportError::Failed {
            addr: addr.clone(),
            source,
        };
        let channel = self.channel(&to.addr).await?;
        let limit = if call == RaftCall::Snapshot { SNAPSHOT_TIMEOUT } else { CALL_TIMEOUT };
        let sent = tokio::time::timeout(limit, async {
            let mut client = tonic::client::Grpc::new(channel)
                .max_decoding_message_size(skep_proto::MAX_RESPONSE_BYTES);
            client.ready().await.map_err(|e| Status::unavailable(e.to_string()))?;
            let path = http::uri::PathAndQuery::from_static(path(call));
            client.unary(Request::new(message), path, Raw).await
        });
        match sent.await {
            Ok(Ok(answer)) => Ok(answer.into_inner()),
            Ok(Err(status)) => Err(failed(status.into())),
            Err(elapsed) => Err(failed(elapsed.into())),
        }
    }
}
