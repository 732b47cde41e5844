//! Messages without generated code: descriptors from `.proto` files, JSON values to bytes and back,
//! paths into values, and what a script expects of them. L3. Read by `exec` and by the commands
//! `check` and `call`.
//!
//! Values are JSON as scenarios write it: field names as in the `.proto` file (JSON names are
//! accepted too), enums by name, `bytes` as text, or as `{"$base64": "…"}` where they are no UTF-8.

mod decode;
mod details;
mod diff;
mod encode;
pub mod expect;
pub mod path;
mod suggest;
#[cfg(test)]
mod tests;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use bytes::Bytes;
use prost_reflect::prost::Message as _;
use prost_reflect::{DescriptorPool, DynamicMessage, MessageDescriptor, MethodDescriptor, ServiceDescriptor};
use serde_json::Value;

pub use decode::shorten;
pub use details::DETAILS;
pub use diff::Diff;
pub use words::to_words;

/// Files that soupscen brings along, by the name under which they can be imported.
const SHIPPED: &[(&str, &str)] =
    &[("kv.proto", include_str!("../../proto/kv.proto")), ("stock.proto", include_str!("../../proto/stock.proto"))];

/// What went wrong with descriptors or messages.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DynamicError {
    /// A `.proto` file cannot be read or compiled.
    #[error("the proto files of `{service}` cannot be used: {why}")]
    Proto {
        /// The service that needs them.
        service: String,
        /// The compiler's words, with file and place.
        why: String,
    },
    /// The files do not declare this service.
    #[error("no service `{service}` in {files}{help}")]
    NoService {
        /// As it was asked for.
        service: String,
        /// Where it was looked for.
        files: String,
        /// What there is.
        help: String,
    },
    /// The service has no such method.
    #[error("service `{service}` has no method `{method}`{help}")]
    NoMethod {
        /// Full name.
        service: String,
        /// As it was asked for.
        method: String,
        /// What there is.
        help: String,
    },
    /// A value does not fit its message.
    #[error("{place}: {why}{help}")]
    Encode {
        /// Message and dotted path, `proto.PutRequest.value`.
        place: String,
        /// The cause.
        why: String,
        /// The way out.
        help: String,
    },
    /// Bytes that are no such message.
    #[error("{length} bytes are no `{message}`: {why}")]
    Decode {
        /// Full name.
        message: String,
        /// How many bytes there were.
        length: usize,
        /// The cause.
        why: String,
    },
}

/// A service with the descriptors of everything that its messages use.
#[derive(Debug, Clone)]
pub struct Service {
    descriptor: ServiceDescriptor,
    /// Where other methods are found, by their full names.
    beside: Vec<DescriptorPool>,
}

/// A method: its path, and the codec of its messages.
#[derive(Debug, Clone)]
pub struct Method {
    path: String,
    descriptor: MethodDescriptor,
}

impl Service {
    /// The service of a scenario.
    ///
    /// # Errors
    /// When its files cannot be compiled, or do not declare it.
    pub fn load(service: &crate::scenario::model::Service) -> Result<Self, DynamicError> {
        Self::compile(&service.service, &service.files, &service.import)
    }

    /// Compiles `files`, looking for imports in `import` (and beside the files where that is empty),
    /// and finds `service` by its full name. Without files it is one that soupscen ships.
    ///
    /// # Errors
    /// As [`Service::load`].
    pub fn compile(service: &str, files: &[PathBuf], import: &[PathBuf]) -> Result<Self, DynamicError> {
        let why = |error: &protox::Error| DynamicError::Proto { service: service.to_owned(), why: describe(error) };
        let pool = if files.is_empty() { shipped() } else { compile(files, import) }.map_err(|e| why(&e))?;
        if let Some(descriptor) = pool.get_service_by_name(service) {
            return Ok(Self { descriptor, beside: Vec::new() });
        }
        let known: Vec<String> = pool.services().map(|s| s.full_name().to_owned()).collect();
        let names: Vec<String> = files.iter().map(|f| format!("`{}`", f.display())).collect();
        Err(DynamicError::NoService {
            service: service.to_owned(),
            files: if names.is_empty() {
                "what soupscen ships (name its proto files)".into()
            } else {
                names.join(", ")
            },
            help: suggest::help(service, &known, "services"),
        })
    }

    /// The same, which knows the methods of these services too, by their full names. One of them may
    /// be the same service in another version.
    #[must_use]
    pub fn beside<'s>(mut self, others: impl IntoIterator<Item = &'s Self>) -> Self {
        self.beside.extend(others.into_iter().map(|other| other.descriptor.parent_pool().clone()));
        self
    }

    /// The full name, `proto.KV`.
    #[must_use]
    pub fn name(&self) -> &str {
        self.descriptor.full_name()
    }

    /// Names of its methods, in the order of the file.
    pub fn methods(&self) -> impl Iterator<Item = String> {
        self.descriptor.methods().map(|m| m.name().to_owned())
    }

    /// A method by its name, or as `package.Service/Method` of any service in the same files or in
    /// those of the services [`beside`](Self::beside) it.
    ///
    /// # Errors
    /// When there is none; the error names the nearest ones.
    pub fn method(&self, name: &str) -> Result<Arc<Method>, DynamicError> {
        let (services, method) = match name.trim_start_matches('/').rsplit_once('/') {
            None => (vec![self.descriptor.clone()], name),
            Some((service, method)) => (self.named(service)?, method),
        };
        if let Some(descriptor) = services.iter().flat_map(ServiceDescriptor::methods).find(|m| m.name() == method) {
            let path = format!("{}/{}", descriptor.parent_service().full_name(), descriptor.name());
            return Ok(Arc::new(Method { path, descriptor }));
        }
        let known: Vec<String> =
            services.iter().flat_map(ServiceDescriptor::methods).map(|m| m.name().to_owned()).collect();
        Err(DynamicError::NoMethod {
            service: services.first().map_or("", ServiceDescriptor::full_name).to_owned(),
            method: method.to_owned(),
            help: suggest::help(method, &known, "methods"),
        })
    }

    /// All that is declared under this full name, what its own files say first.
    fn named(&self, service: &str) -> Result<Vec<ServiceDescriptor>, DynamicError> {
        let pools = || std::iter::once(self.descriptor.parent_pool()).chain(&self.beside);
        let found: Vec<_> = pools().filter_map(|pool| pool.get_service_by_name(service)).collect();
        if !found.is_empty() {
            return Ok(found);
        }
        let known: Vec<String> = pools().flat_map(DescriptorPool::services).map(|s| s.full_name().to_owned()).collect();
        Err(DynamicError::NoService {
            service: service.to_owned(),
            files: format!("the files of `{}`", self.name()),
            help: suggest::help(service, &known, "services"),
        })
    }
}

impl Method {
    /// `package.Service/Method`, without a leading slash.
    #[must_use]
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The client may send many messages.
    #[must_use]
    pub fn client_streaming(&self) -> bool {
        self.descriptor.is_client_streaming()
    }

    /// The server may send many messages.
    #[must_use]
    pub fn server_streaming(&self) -> bool {
        self.descriptor.is_server_streaming()
    }

    /// Encodes a request. `null` is the empty message.
    ///
    /// # Errors
    /// When the value does not fit the message; the error names the field.
    pub fn encode(&self, value: &Value) -> Result<Bytes, DynamicError> {
        encode_as(&self.descriptor.input(), value)
    }

    /// Decodes a response. Fields without presence are always there, with their default; others
    /// only when they are set.
    ///
    /// # Errors
    /// When the bytes are no such message.
    pub fn decode(&self, bytes: &[u8]) -> Result<Value, DynamicError> {
        decode_as(&self.descriptor.output(), bytes)
    }

    /// An encoded request in protobuf's own JSON, as tools of others take it.
    ///
    /// # Errors
    /// When the bytes are no such message.
    pub fn request_to_json(&self, bytes: &[u8]) -> Result<String, DynamicError> {
        let message = self.descriptor.input();
        let fail =
            |why: String| DynamicError::Decode { message: message.full_name().to_owned(), length: bytes.len(), why };
        let decoded = DynamicMessage::decode(message.clone(), bytes).map_err(|e| fail(e.to_string()))?;
        serde_json::to_string(&decoded).map_err(|e| fail(e.to_string()))
    }

    /// Encodes a response that a tool of others gave in protobuf's own JSON.
    ///
    /// # Errors
    /// When it is no such message.
    pub fn response_from_json(&self, value: &Value) -> Result<Bytes, DynamicError> {
        let message = self.descriptor.output();
        let text = value.to_string();
        DynamicMessage::deserialize(message.clone(), value.clone()).map(|m| m.encode_to_vec().into()).map_err(|e| {
            DynamicError::Decode { message: message.full_name().to_owned(), length: text.len(), why: e.to_string() }
        })
    }

    /// Checks the field names of a request template without its values: problems by dotted path.
    #[must_use]
    pub fn check_names(&self, template: &Value) -> Vec<DynamicError> {
        encode::check_names(&self.descriptor.input(), template)
    }

    /// Encodes a response: for a server's side, and for tests.
    ///
    /// # Errors
    /// As [`Method::encode`].
    pub fn encode_response(&self, value: &Value) -> Result<Bytes, DynamicError> {
        encode_as(&self.descriptor.output(), value)
    }

    /// Decodes a request: for a server's side, and for evidence.
    ///
    /// # Errors
    /// As [`Method::decode`].
    pub fn decode_request(&self, bytes: &[u8]) -> Result<Value, DynamicError> {
        decode_as(&self.descriptor.input(), bytes)
    }
}

fn encode_as(message: &MessageDescriptor, value: &Value) -> Result<Bytes, DynamicError> {
    encode::message(message, value, message.full_name()).map(|m| m.encode_to_vec().into())
}

fn decode_as(message: &MessageDescriptor, bytes: &[u8]) -> Result<Value, DynamicError> {
    let fail = |message: &MessageDescriptor, why: String| DynamicError::Decode {
        message: message.full_name().to_owned(),
        length: bytes.len(),
        why,
    };
    let decoded = DynamicMessage::decode(message.clone(), bytes).map_err(|e| fail(message, e.to_string()))?;
    decode::message(&decoded).map_err(|why| fail(message, why))
}

fn compile(files: &[PathBuf], import: &[PathBuf]) -> Result<DescriptorPool, protox::Error> {
    let beside =
        files.iter().filter_map(|f| f.parent()).map(|p| if p.as_os_str().is_empty() { Path::new(".") } else { p });
    let mut folders: Vec<&Path> = import.iter().map(PathBuf::as_path).collect();
    if folders.is_empty() {
        folders.extend(beside);
        folders.dedup();
    }
    let mut compiler = protox::Compiler::new(folders)?;
    compiler.include_imports(true);
    compiler.open_files(files)?;
    Ok(compiler.descriptor_pool())
}

fn shipped() -> Result<DescriptorPool, protox::Error> {
    struct Shipped;
    impl protox::file::FileResolver for Shipped {
        fn open_file(&self, name: &str) -> Result<protox::file::File, protox::Error> {
            let text = SHIPPED.iter().find(|(n, _)| *n == name).map(|(_, text)| *text);
            protox::file::File::from_source(name, text.ok_or_else(|| protox::Error::file_not_found(name))?)
        }
    }
    let mut compiler = protox::Compiler::with_file_resolver(Shipped);
    compiler.open_files(SHIPPED.iter().map(|(name, _)| name))?;
    Ok(compiler.descriptor_pool())
}

/// The compiler's error on one line, with its file and place.
fn describe(error: &protox::Error) -> String {
    // Its Debug form is `file:line:column: message`.
    let text = format!("{error:?}");
    let mut lines = text.lines().map(str::trim).filter(|l| !l.is_empty());
    let first = lines.next().unwrap_or("unknown error").to_owned();
    match error.file() {
        Some(file) if !first.contains(file) => format!("{file}: {first}"),
        _ => first,
    }
}
