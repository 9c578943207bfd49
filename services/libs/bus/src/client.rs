//! The client's address, which goes with every call of the gateway's as the trace does: whoever asks does not pass it on
//! by hand, so that no call is without it.

use std::future::Future;
use std::net::IpAddr;

use async_nats::HeaderMap;
use contract::envelope::ADDRESS_HEADER;

use crate::trace;

tokio::task_local! {
    static ADDRESS: Option<IpAddr>;
}

/// Runs what is done for a client there; for one of whom nobody knows where, without an address.
pub async fn on_behalf_of<F: Future>(address: impl Into<Option<IpAddr>>, work: F) -> F::Output {
    ADDRESS.scope(address.into(), work).await
}

/// Takes the address along into a task of its own.
pub fn carried<F: Future>(work: F) -> impl Future<Output = F::Output> {
    let address = current();
    async move {
        match address {
            Some(address) => on_behalf_of(address, work).await,
            None => work.await,
        }
    }
}

/// The client for whom this is done; `None` outside of its request.
#[must_use]
pub fn current() -> Option<IpAddr> {
    ADDRESS.try_with(|address| *address).ok().flatten()
}

pub(crate) fn inject(headers: &mut HeaderMap) {
    if let Some(address) = current() {
        headers.insert(ADDRESS_HEADER, address.to_string());
    }
}

pub(crate) fn of(message: &async_nats::Message) -> Option<IpAddr> {
    trace::header(message.headers.as_ref(), ADDRESS_HEADER)?
        .parse()
        .ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_address_goes_with_the_work_and_no_further() {
        let here: IpAddr = "192.0.2.7".parse().expect("an address");
        assert_eq!(current(), None);
        let (inside, task) = on_behalf_of(here, async {
            let forgotten = tokio::spawn(async { current() });
            let carried = tokio::spawn(carried(async { current() }));
            (current(), (forgotten.await, carried.await))
        })
        .await;
        assert_eq!(inside, Some(here));
        assert_eq!(task.0.expect("a task"), None);
        assert_eq!(task.1.expect("a task"), Some(here));
        let nowhere = on_behalf_of(None::<IpAddr>, async { current() }).await;
        assert_eq!(nowhere, None);
        assert_eq!(current(), None);
    }
}
