//! Files that are mounted into the pod: the membership secret and the interface exclusions. Both change while we run, by
//! the kubelet swapping a symbolic link, so they are read again from time to time.

use std::io::ErrorKind;
use std::path::Path;

use metallb_api::names::{objects, paths};
use metallb_member::Secret;
use metallb_net::Exclusions;
use serde::Deserialize;

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

#[derive(Deserialize)]
struct ExcludeFile {
    #[serde(rename = "announcedInterfacesToExclude")]
    exclude: Option<Vec<String>>,
}

/// The interface exclusions; `None` means that the file is absent or unusable, and the default patterns hold.
pub(crate) fn read_exclusions() -> Option<Exclusions> {
    let file = Path::new(paths::EXCLUDE_L2_DIR).join(objects::EXCLUDE_L2_FILE);
    let text = match std::fs::read_to_string(&file) {
        Ok(text) => text,
        Err(error) => {
            if error.kind() != ErrorKind::NotFound {
                tracing::warn!(file = %file.display(), %error, "the interface exclusions cannot be read");
            }
            return None;
        }
    };
    parse_exclusions(&text)
}

fn parse_exclusions(text: &str) -> Option<Exclusions> {
    match metallb_api::yaml::from_str::<ExcludeFile>(text) {
        Ok(file) => {
            let (exclusions, invalid) = Exclusions::new(file.exclude?);
            for pattern in invalid {
                tracing::warn!(error = %pattern, "an interface exclusion is left out");
            }
            Some(exclusions)
        }
        Err(error) => {
            tracing::warn!(%error, "excludel2.yaml is not understood; the default exclusions hold");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn exclusions_as_the_config_map_has_them() {
        let exclusions =
            parse_exclusions("announcedInterfacesToExclude: [\"^docker.*\", \"^lo$\"]\n").expect("list");
        assert!(exclusions.excludes("docker0") && !exclusions.excludes("eth0"));
        let empty = parse_exclusions("announcedInterfacesToExclude: []").expect("an empty list is a list");
        assert!(!empty.excludes("lo"));
        for text in ["announcedInterfacesToExclude:", "{}", "- a", ": ["] {
            assert!(parse_exclusions(text).is_none(), "{text}");
        }
    }

    #[test]
    fn a_missing_directory_means_no_secret() {
        assert!(read_secret(Path::new("/nonexistent")).is_none());
    }
}
