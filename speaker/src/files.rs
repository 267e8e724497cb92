//! Files that are mounted into the pod: the membership secret and the interface exclusions. Both change while we run, by
//! the kubelet swapping a symbolic link, so they are read again from time to time.

mod exclusions;

use std::io::ErrorKind;
use std::path::Path;

use metallb_api::names::{objects, paths};
use metallb_member::Secret;

pub(crate) use self::exclusions::ExclusionFile;

/// The shared secret: a user's own (in `directory`) wins over the generated one; none means membership in the clear.
pub(crate) fn read_secret(directory: &Path) -> Secret {
    for directory in [directory, Path::new(paths::MEMBERLIST_GENERATED_DIR)] {
        let file = directory.join(objects::MEMBERLIST_SECRET_KEY);
        match std::fs::read(&file) {
            Ok(bytes) => {
                let secret = Secret::new(&bytes);
                if !secret.is_none() {
                    return secret;
                }
            }
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                tracing::warn!(file = %file.display(), %error, "the membership secret cannot be read");
            }
        }
    }
    Secret::none()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_directory_means_no_secret() {
        assert!(read_secret(Path::new("/nonexistent")).is_none());
    }
}
