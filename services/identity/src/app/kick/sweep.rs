//! Finding the connections of many machines in the servers' lists, which are read page by page.

use std::collections::HashSet;

use bus::BusError;
use bus::system::Connections;
use domain::{MachineId, OrgId};

/// How many pages are read at most.
const PAGES_MAX: usize = 256;

/// A connection to be cut.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Target {
    /// The server's id.
    pub server: String,
    /// The connection's number there.
    pub cid: u64,
    /// Whose it is.
    pub agent: (OrgId, MachineId),
}

/// The connections of these machines on these pages.
pub fn targets(pages: &[Connections], revoked: &HashSet<(OrgId, MachineId)>) -> Vec<Target> {
    let of_page = |page: &Connections| {
        let server = page.server.id.clone();
        let found = page.data.connections.iter().filter_map(|connection| {
            Some((
                connection.cid,
                connection.agent().filter(|agent| revoked.contains(agent))?,
            ))
        });
        let found: Vec<_> = found.collect();
        found.into_iter().map(move |(cid, agent)| Target {
            server: server.clone(),
            cid,
            agent,
        })
    };
    pages.iter().flat_map(of_page).collect()
}

/// Reads all pages (`read` gives those of every server from a place in its list on), then cuts. Not before: what is cut
/// leaves the list, and as many others would move up past the place where the next page begins.
///
/// # Errors
/// What `read` says; [`BusError::Unavailable`] when no server answers.
pub async fn run<R, F, C, G>(
    revoked: &HashSet<(OrgId, MachineId)>,
    read: R,
    cut: C,
) -> Result<(), BusError>
where
    R: Fn(usize) -> F,
    F: Future<Output = Result<Vec<Connections>, BusError>>,
    C: Fn(Target) -> G,
    G: Future<Output = ()>,
{
    let (mut found, mut offset) = (Vec::new(), 0);
    for _ in 0..PAGES_MAX {
        let pages = read(offset).await?;
        if pages.is_empty() {
            let text = "no server named its connections";
            return Err(BusError::Unavailable(text.into()));
        }
        found.extend(targets(&pages, revoked));
        let length = |page: &Connections| page.data.connections.len();
        let longest = pages.iter().map(length).max().unwrap_or(0);
        let whole = |page: &Connections| offset + length(page) >= page.data.total;
        if longest == 0 || pages.iter().all(whole) {
            break;
        }
        offset += longest;
    }
    for target in found {
        cut(target).await;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[tokio::test]
    async fn a_list_of_many_pages_is_swept_whole_though_it_shrinks() {
        const PAGE: usize = 3;
        let agents: Vec<_> = (0..10).map(|_| (OrgId::new(), MachineId::new())).collect();
        // Every other machine is revoked.
        let revoked: HashSet<_> = agents.iter().copied().step_by(2).collect();
        let open = Mutex::new(agents.clone());
        let read = async |offset: usize| {
            let open = open.lock().expect("the list");
            let rows = open.iter().skip(offset).take(PAGE).map(|(org, machine)| {
                let user = contract::subject::agent_user(*org, *machine);
                serde_json::json!({ "cid": 7, "start": "", "authorized_user": user })
            });
            let page = serde_json::json!({
                "server": { "id": "A" },
                "data": { "now": "", "total": open.len(), "offset": offset, "limit": PAGE,
                    "connections": rows.collect::<Vec<_>>() }
            });
            Ok(vec![serde_json::from_value(page).expect("a page")])
        };
        let cut = async |target: Target| {
            let mut open = open.lock().expect("the list");
            open.retain(|agent| *agent != target.agent);
        };
        run(&revoked, read, cut).await.expect("a sweep");
        let left: Vec<_> = agents.into_iter().skip(1).step_by(2).collect();
        assert_eq!(*open.lock().expect("the list"), left);
    }
}
