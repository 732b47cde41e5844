//! The KV service itself.

use std::sync::Arc;

use tonic::{Request, Response, Status};

use super::control::Stdio;
use super::proto::kv::kv_server::Kv;
use super::proto::kv::{Empty, GetRequest, GetResponse, PutRequest};
use super::store::Store;

/// `proto.KV` over a store.
#[derive(Debug)]
pub(super) struct KvService {
    pub(super) store: Arc<Store>,
    /// Told of every put, when `KV_ECHO=1` asks for it.
    pub(super) echo: Option<Arc<Stdio>>,
}

#[tonic::async_trait]
impl Kv for KvService {
    async fn get(&self, request: Request<GetRequest>) -> Result<Response<GetResponse>, Status> {
        let GetRequest { key } = request.into_inner();
        match self.store.get(&key).await {
            Ok(Some(value)) => Ok(Response::new(GetResponse { value })),
            Ok(None) => Err(Status::not_found(format!("key not found: {key}"))),
            Err(error) => Err(Status::internal(format!("the value cannot be read: {error}"))),
        }
    }

    async fn put(&self, request: Request<PutRequest>) -> Result<Response<Empty>, Status> {
        let PutRequest { key, value } = request.into_inner();
        if let Err(error) = self.store.put(&key, &value).await {
            return Err(Status::internal(format!("the value cannot be kept: {error}")));
        }
        if let Some(stdio) = &self.echo {
            stdio.stdout(format!("put {key}\n").as_bytes());
        }
        Ok(Response::new(Empty {}))
    }
}
