//! Whether the owner of a bearer token may read a path of ours, as the API server says.

use k8s_openapi::api::{
    authentication::v1::{TokenReview, TokenReviewSpec, TokenReviewStatus},
    authorization::v1::{NonResourceAttributes, SubjectAccessReview, SubjectAccessReviewSpec},
};
use kube::{Api, Client, api::PostParams};

/// What the API server says about a token and a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The user may.
    Granted,
    /// The token is nobody's.
    Unauthenticated,
    /// This user may not.
    Forbidden(String),
}

/// Reviews `token` (`TokenReview`), then whether its owner may `get` the nonResourceURL `path` (`SubjectAccessReview`).
///
/// # Errors
/// A review could not be made: no connection, or no right to `create` `tokenreviews` or `subjectaccessreviews`.
pub async fn may_get(client: Client, token: String, path: String) -> Result<Verdict, kube::Error> {
    let review = TokenReview {
        spec: TokenReviewSpec {
            token: Some(token),
            ..TokenReviewSpec::default()
        },
        ..TokenReview::default()
    };
    let answer = Api::<TokenReview>::all(client.clone())
        .create(&PostParams::default(), &review)
        .await?;
    let Some(subject) = subject(answer.status.unwrap_or_default(), path) else {
        return Ok(Verdict::Unauthenticated);
    };
    let user = subject.user.clone().unwrap_or_default();
    let review = SubjectAccessReview {
        spec: subject,
        ..SubjectAccessReview::default()
    };
    let answer = Api::<SubjectAccessReview>::all(client)
        .create(&PostParams::default(), &review)
        .await?;
    let granted = answer.status.is_some_and(|status| status.allowed);
    Ok(if granted {
        Verdict::Granted
    } else {
        Verdict::Forbidden(user)
    })
}

/// Whom to ask about; `None` when the token is nobody's.
fn subject(status: TokenReviewStatus, path: String) -> Option<SubjectAccessReviewSpec> {
    if !status.authenticated.unwrap_or(false) {
        return None;
    }
    let user = status.user?;
    Some(SubjectAccessReviewSpec {
        user: user.username,
        groups: user.groups,
        uid: user.uid,
        extra: user.extra,
        non_resource_attributes: Some(NonResourceAttributes {
            path: Some(path),
            verb: Some("get".into()),
        }),
        ..SubjectAccessReviewSpec::default()
    })
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::authentication::v1::UserInfo;

    use super::*;

    #[test]
    fn only_an_authenticated_user_is_asked_about() {
        let user = UserInfo {
            username: Some("system:serviceaccount:monitoring:prometheus".into()),
            groups: Some(vec!["system:serviceaccounts".into()]),
            ..UserInfo::default()
        };
        let status = |authenticated| TokenReviewStatus {
            authenticated,
            user: Some(user.clone()),
            ..TokenReviewStatus::default()
        };
        assert_eq!(subject(status(None), "/metrics".into()), None);
        assert_eq!(subject(status(Some(false)), "/metrics".into()), None);
        let spec = subject(status(Some(true)), "/metrics".into()).expect("somebody");
        assert_eq!((spec.user, spec.groups), (user.username, user.groups));
        let asked = spec.non_resource_attributes.expect("a path");
        assert_eq!(
            (asked.path.as_deref(), asked.verb.as_deref()),
            (Some("/metrics"), Some("get"))
        );
    }
}
