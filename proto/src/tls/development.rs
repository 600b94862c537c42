//! A certificate for those who just want to try TLS: an authority and a certificate signed by it,
//! made on the first start. The authority's key is forgotten at once, so it never signs another.

use std::fs::{self, OpenOptions};
use std::io::Write;
use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose,
};

use super::{TlsError, TlsFiles};

const CA: &str = "ca.pem";
const CERTIFICATE: &str = "node.pem";
const KEY: &str = "node.key";

/// The names by which a node of this machine is always reached.
const LOCAL_NAMES: [&str; 3] = ["localhost", "127.0.0.1", "::1"];

/// The files of a certificate for this machine and `names` (hosts or addresses) in `folder`, made
/// where they are missing. Its authority, `ca.pem`, is what clients are given.
///
/// # Errors
/// The files cannot be made, or a name is none.
pub fn development_files(folder: &Path, names: &[String]) -> Result<TlsFiles, TlsError> {
    let files = TlsFiles {
        certificate: folder.join(CERTIFICATE),
        key: folder.join(KEY),
        ca: Some(folder.join(CA)),
        client_ca: Some(folder.join(CA)),
        demand_client: false,
    };
    // The certificate is written last: what is there is whole.
    if !files.certificate.exists() {
        make(folder, names).map_err(|reason| TlsError::Make { folder: folder.to_owned(), reason })?;
        tracing::warn!(folder = %folder.display(), "made a development certificate; give clients its ca.pem");
    }
    Ok(files)
}

fn make(folder: &Path, names: &[String]) -> Result<(), String> {
    let said = |e: rcgen::Error| e.to_string();
    let mut authority = CertificateParams::default();
    authority.distinguished_name.push(DnType::CommonName, "Skyflight development authority");
    authority.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    authority.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let authority = CertifiedIssuer::self_signed(authority, KeyPair::generate().map_err(said)?).map_err(said)?;

    let mut all: Vec<String> = LOCAL_NAMES.iter().map(|&name| name.to_owned()).collect();
    all.extend(names.iter().filter(|name| !LOCAL_NAMES.contains(&name.as_str())).cloned());
    let mut node = CertificateParams::new(all).map_err(said)?;
    node.distinguished_name.push(DnType::CommonName, "Skyflight development node");
    node.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    // A node is a server to some and a client of others.
    node.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    node.use_authority_key_identifier_extension = true;
    let key = KeyPair::generate().map_err(said)?;
    let certificate = node.signed_by(&key, &authority).map_err(said)?;

    let written = fs::create_dir_all(folder)
        .and_then(|()| write(&folder.join(CA), &authority.pem(), 0o644))
        .and_then(|()| write(&folder.join(KEY), &key.serialize_pem(), 0o600))
        .and_then(|()| write(&folder.join(CERTIFICATE), &certificate.pem(), 0o644));
    written.map_err(|e| e.to_string())
}

fn write(path: &Path, text: &str, mode: u32) -> std::io::Result<()> {
    let part = path.with_extension("part");
    // Left by a start that was cut short.
    match fs::remove_file(&part) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut options = OpenOptions::new();
    options.write(true).create_new(true);
    #[cfg(unix)]
    std::os::unix::fs::OpenOptionsExt::mode(&mut options, mode);
    #[cfg(not(unix))]
    let _ = mode;
    let mut file = options.open(&part)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&part, path)
}
