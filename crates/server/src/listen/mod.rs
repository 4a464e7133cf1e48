//! RFC 6120 §3 and §5: connections as bytes: TCP, STARTTLS, direct TLS (XEP-0368).
//!
//! Bytes in and out, nothing else: what the bytes mean is the stream's affair.

pub mod buffers;
pub mod certificates;
pub mod tcp;
pub mod tls;
pub mod transport;

pub use buffers::{Buffers, PooledBuf};
pub use certificates::{CertificateError, Certificates};
pub use tcp::{Admission, Admitted, Listener, Refused};
pub use tls::{TlsConnection, TlsError, TlsProgress};
pub use transport::{ReadOutcome, Transport};
