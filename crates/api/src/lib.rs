//! The generated contracts of Octroi: messages, clients and servers, the descriptor set that reflection serves, and
//! the table of methods. The contracts are in `proto/`.

#![allow(
    missing_docs,
    clippy::all,
    reason = "generated code carries the contracts' own comments"
)]

use std::borrow::Cow;

/// The descriptor set of every contract, with source information, so that reflection shows the comments.
pub const DESCRIPTORS: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptors.bin"));

/// A declared method: who may call it, what a token bound to an account may do with it, and how long its request ids
/// are known.
#[derive(Debug, Clone, Copy)]
pub struct Method {
    /// Path on the wire: "/octroi.licensing.v1.OfferService/GetOffer".
    pub path: &'static str,
    /// Scope; "service" for Octroi's own services alone. "{service}" stands for the service that is called.
    pub scope: &'static str,
    /// What a token that is bound to an account may do with it.
    pub reach: Reach,
    /// Which of Octroi's own services may call it; empty unless the scope is "service".
    pub callers: &'static [&'static str],
    /// Whether its request ids are known for ever.
    pub lasting: bool,
    /// Whether it only reads, as its name says.
    pub reads: bool,
    /// Whether its request is a stream of messages.
    pub client_streaming: bool,
    /// Whether its response is a stream of messages.
    pub server_streaming: bool,
}

impl Method {
    /// The method at a path, if it is declared.
    pub fn find(path: &str) -> Option<&'static Method> {
        METHODS
            .binary_search_by(|method| method.path.cmp(path))
            .ok()
            .map(|at| &METHODS[at])
    }

    /// The scope that a caller needs for it at a service.
    pub fn scope_at(&self, service: &str) -> Cow<'static, str> {
        match self.scope.contains('{') {
            true => self.scope.replace("{service}", service).into(),
            false => self.scope.into(),
        }
    }

    /// The package's middle word: "licensing", "billing", "notification", or "event", "testing" and "auth", which
    /// every service serves.
    pub fn area(&self) -> &'static str {
        self.path.split('.').nth(1).unwrap_or_default()
    }
}

/// A declared type of event.
#[derive(Debug, Clone, Copy)]
pub struct EventType {
    /// Its name: "licensing.license.activated".
    pub name: &'static str,
    /// The service that records it.
    pub source: &'static str,
    /// The services that it is delivered to.
    pub subscribers: &'static [&'static str],
    /// Whether one that belongs to no account holds back `complete_through`.
    pub holds_everyone: bool,
}

include!(concat!(env!("OUT_DIR"), "/methods.rs"));
include!(concat!(env!("OUT_DIR"), "/event_types.rs"));
include!(concat!(env!("OUT_DIR"), "/requests.rs"));
include!(concat!(env!("OUT_DIR"), "/redacted.rs"));

/// A method's request.
pub trait Request: prost::Message {
    /// Calls back with each resource name in its fields, and in those of the resource that it contains.
    fn names(&mut self, found: impl FnMut(&mut String));
}

/// A request that changes something: it has a `request_id`.
pub trait Mutation: Request {
    /// Takes its request id out; the rest identifies what is asked for.
    fn take_request_id(&mut self) -> String;
}

/// A request for a page of a list.
pub trait Listing: Request {
    /// Takes out the page that is asked for; the rest identifies the list.
    fn take_paging(&mut self) -> Paging;

    /// What chooses its rows, which the page does not, nor the view: how much is shown of each.
    fn chooses(&self) -> Vec<u8>;
}

/// The page of a list that is asked for, and the list's filter and order.
#[derive(Debug)]
pub struct Paging {
    pub size: i32,
    pub token: String,
    pub filter: String,
    pub order_by: String,
}

use std::mem::take;

pub use auth::v1::Reach;

mod codec;

pub mod auth {
    pub mod v1 {
        tonic::include_proto!("octroi.auth.v1");
    }
}

pub mod licensing {
    pub mod v1 {
        tonic::include_proto!("octroi.licensing.v1");
    }
}

pub mod billing {
    pub mod v1 {
        tonic::include_proto!("octroi.billing.v1");
    }
}

pub mod notification {
    pub mod v1 {
        tonic::include_proto!("octroi.notification.v1");
    }
}

pub mod event {
    pub mod v1 {
        tonic::include_proto!("octroi.event.v1");
    }
}

pub mod testing {
    pub mod v1 {
        tonic::include_proto!("octroi.testing.v1");
    }
}

pub mod r#type {
    pub mod v1 {
        tonic::include_proto!("octroi.r#type.v1");
    }
}
