//! Where a sealed secret lies.

use domain::OrgId;
use uuid::Uuid;

/// What the text begins with to which a secret is bound.
const CONTEXT: &[u8] = b"dashfleet/seal/1\0";

/// The one row and column that a secret is sealed for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The table with its schema: `scheduler.module_secrets`.
    pub table: &'static str,
    /// The column.
    pub column: &'static str,
    /// The organisation; absent for what is the installation's.
    pub org: Option<OrgId>,
    /// The row.
    pub row: Uuid,
}

impl Place {
    /// What goes into the cipher as associated data. Each part has its length before it, so that no two places give the
    /// same bytes. `head` is what stands before the ciphertext: version and key id.
    pub(crate) fn associated(&self, head: &[u8]) -> Vec<u8> {
        let org = self.org.map(|org| org.0);
        let parts: [&[u8]; 5] = [
            head,
            self.table.as_bytes(),
            self.column.as_bytes(),
            org.as_ref().map_or(&[], |org| org.as_bytes().as_slice()),
            self.row.as_bytes(),
        ];
        let mut data = CONTEXT.to_vec();
        for part in parts {
            data.extend_from_slice(&(part.len() as u64).to_be_bytes());
            data.extend_from_slice(part);
        }
        data
    }
}
