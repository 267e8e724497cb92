//! A service as it is kept in mind: small, because there are thousands.

use std::borrow::Cow;

use metallb_model::Labels;

use crate::request::{Request, ServiceId};
use crate::service::Service;

/// A service with its labels packed into one text: a map of a few labels takes more room than all the rest, and hardly
/// any pool asks for them.
#[derive(Clone, Debug)]
pub(crate) struct Known {
    /// Its labels are empty: see [`Known::request`].
    pub(crate) service: Service,
    labels: Box<str>,
}

/// Neither occurs in label keys and values.
const ASSIGNS: char = '=';
const ENDS: char = '\n';

impl Known {
    /// Keeps the service in mind under the name that is known already.
    pub(crate) fn new(mut service: Service, id: Option<&ServiceId>) -> Self {
        if let Some(id) = id {
            service.request.id = id.clone();
        }
        let mut text = String::new();
        for (key, value) in std::mem::take(&mut service.request.labels) {
            text.push_str(&key);
            text.push(ASSIGNS);
            text.push_str(&value);
            text.push(ENDS);
        }
        let request = &mut service.request;
        request.cluster_ips.shrink_to_fit();
        request.sharing.ports.shrink_to_fit();
        if let Ok(wanted) = &mut request.wanted_ips {
            wanted.shrink_to_fit();
        }
        service.ingress.shrink_to_fit();
        Self {
            service,
            labels: text.into(),
        }
    }

    /// What the service asks for, with its labels when they matter.
    pub(crate) fn request(&self, with_labels: bool) -> Cow<'_, Request> {
        let request = &self.service.request;
        if !with_labels || self.labels.is_empty() {
            return Cow::Borrowed(request);
        }
        let pairs = self.labels.split_terminator(ENDS);
        let labels: Labels = pairs
            .filter_map(|pair| pair.split_once(ASSIGNS))
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .collect();
        Cow::Owned(Request {
            labels,
            ..request.clone()
        })
    }

    /// Same object, same content, whatever the resource version.
    pub(crate) fn says_same(&self, other: &Self) -> bool {
        self.labels == other.labels && self.service.says_same(&other.service)
    }
}
