//! Where a server of the comparison lives: a folder of its own, free ports on loopback, one certificate for all.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use super::CompareError;

/// The domain of all accounts.
pub const DOMAIN: &str = "localhost";
/// The password of all accounts, so that servers whose keys can be copied need derive them but once.
pub const PASSWORD: &str = "secret";

/// The folder of a whole comparison; it goes when this value goes.
#[derive(Debug)]
pub struct Folder(PathBuf);

impl Folder {
    /// A new one among the system's temporary files.
    pub fn new() -> Result<Self, CompareError> {
        let path = std::env::temp_dir().join(format!("magpie-compare-{}", std::process::id()));
        fs::create_dir(&path).map_err(CompareError::file(&path))?;
        Ok(Self(path))
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("{} stays behind: {error}", self.0.display());
        }
    }
}

/// The files of one certificate for `localhost`, ECDSA with P-256.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file.
    pub both: PathBuf,
}

impl Certificate {
    /// Makes one in this folder.
    pub fn make(folder: &Path) -> Result<Self, CompareError> {
        let (chain, key) =
            self_signed().map_err(|error| CompareError::Setup(format!("no certificate could be made: {error}")))?;
        let certificate =
            Self { chain: folder.join("cert.pem"), key: folder.join("key.pem"), both: folder.join("both.pem") };
        write(&certificate.both, &format!("{chain}{key}"))?;
        write(&certificate.chain, &chain)?;
        write(&certificate.key, &key)?;
        Ok(certificate)
    }
}

/// The certificate and its key. It ends the year after next: Erlang's timers do not reach to where a library's default does.
fn self_signed() -> Result<(String, String), rcgen::Error> {
    const YEAR: u64 = 31_556_952;
    let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
    let year = 1970 + i32::try_from(now / YEAR).unwrap_or_default();
    let mut parameters = rcgen::CertificateParams::new([DOMAIN.to_owned()])?;
    parameters.not_before = rcgen::date_time_ymd(year - 1, 1, 1);
    parameters.not_after = rcgen::date_time_ymd(year + 2, 1, 1);
    parameters.distinguished_name = rcgen::DistinguishedName::new();
    parameters.distinguished_name.push(rcgen::DnType::CommonName, DOMAIN);
    let key = rcgen::KeyPair::generate()?;
    Ok((parameters.self_signed(&key)?.pem(), key.serialize_pem()))
}

/// Where one server lives.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its files.
    pub folder: PathBuf,
    /// Plain and STARTTLS.
    pub port: u16,
    /// TLS from the start.
    pub tls_port: u16,
    /// Ports for what else it needs.
    pub inner_ports: [u16; 2],
    /// What it shows its clients.
    pub certificate: Certificate,
}

impl Place {
    /// Makes the folder, and finds the ports.
    pub fn new(parent: &Path, name: &str, certificate: &Certificate) -> Result<Self, CompareError> {
        let folder = parent.join(name);
        fs::create_dir_all(&folder).map_err(CompareError::file(&folder))?;
        let [port, tls_port, inner, other] = free_ports().map_err(|error| CompareError::Setup(error.to_string()))?;
        Ok(Self { folder, port, tls_port, inner_ports: [inner, other], certificate: certificate.clone() })
    }

    /// The address for plain connections and STARTTLS.
    pub fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    /// The address for direct TLS.
    pub fn tls_address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.tls_port))
    }

    /// Fills in the words between `@` and writes the profile to the folder.
    pub fn write_profile(&self, file: &str, profile: &str, more: &[(&str, &str)]) -> Result<PathBuf, CompareError> {
        let path = self.folder.join(file);
        write(&path, &self.render(profile, more)?)?;
        Ok(path)
    }

    /// The profile with the words between `@` filled in; a word that nobody knows is an error.
    pub fn render(&self, profile: &str, more: &[(&str, &str)]) -> Result<String, CompareError> {
        let own = [
            ("folder", self.folder.display().to_string()),
            ("port", self.port.to_string()),
            ("tls_port", self.tls_port.to_string()),
            ("certificate", self.certificate.chain.display().to_string()),
            ("key", self.certificate.key.display().to_string()),
            ("pem", self.certificate.both.display().to_string()),
        ];
        let known = |word: &str| {
            let own = own.iter().find(|(name, _)| *name == word).map(|(_, value)| value.as_str());
            own.or_else(|| more.iter().find(|(name, _)| *name == word).map(|(_, value)| *value))
        };
        let mut out = String::with_capacity(profile.len());
        let mut rest = profile;
        while let Some(at) = rest.find('@') {
            let (before, after) = (&rest[..at], &rest[at + 1..]);
            out.push_str(before);
            let word = after.find('@').map(|end| &after[..end]).filter(|word| is_word(word));
            let Some(word) = word else {
                // An `@` that stands for itself.
                out.push('@');
                rest = after;
                continue;
            };
            let value = known(word).ok_or_else(|| CompareError::Setup(format!("a profile has the word @{word}@")))?;
            out.push_str(value);
            rest = &after[word.len() + 1..];
        }
        Ok(out + rest)
    }
}

fn is_word(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'_')
}

/// Writes a file; an error names it.
pub fn write(path: &Path, text: &str) -> Result<(), CompareError> {
    fs::write(path, text).map_err(CompareError::file(path))
}

/// Ports that nobody has at this moment, found all at once so that they differ.
fn free_ports() -> io::Result<[u16; 4]> {
    let listeners = (0..4).map(|_| TcpListener::bind(("127.0.0.1", 0))).collect::<io::Result<Vec<TcpListener>>>()?;
    let mut ports = [0; 4];
    for (port, listener) in ports.iter_mut().zip(&listeners) {
        *port = listener.local_addr()?.port();
    }
    Ok(ports)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    fn place() -> Place {
        let certificate =
            Certificate { chain: "/c/cert.pem".into(), key: "/c/key.pem".into(), both: "/c/both.pem".into() };
        Place { folder: "/f".into(), port: 1, tls_port: 2, inner_ports: [3, 4], certificate }
    }

    #[test]
    fn words_between_at_signs_are_filled_in_and_other_at_signs_stay() {
        let profile = "a @port@ b @tls_port@ HIGH:@STRENGTH c@d.example @more@@folder@";
        assert_eq!(place().render(profile, &[("more", "x")]).unwrap(), "a 1 b 2 HIGH:@STRENGTH c@d.example x/f");
    }

    #[test]
    fn a_word_that_nobody_knows_is_an_error() {
        let error = place().render("x = @prot@", &[]).unwrap_err();
        assert!(error.to_string().contains("@prot@"), "{error}");
    }

    #[test]
    fn free_ports_differ() {
        let ports = free_ports().unwrap();
        let different: std::collections::BTreeSet<u16> = ports.into_iter().collect();
        assert_eq!(different.len(), 4);
    }

    #[test]
    fn a_comparison_leaves_no_folder() {
        let folder = Folder::new().unwrap();
        let path = folder.path().to_owned();
        Certificate::make(&path).unwrap();
        assert!(path.join("both.pem").is_file());
        drop(folder);
        assert!(!path.exists());
    }
}
