//! Pages of lists by id: limits, and cursors, which are the id of the last item.

use contract::Problem;
use domain::MachineId;
use uuid::Uuid;

/// The longest page.
const LIMIT_MAX: u32 = 200;

/// A page that somebody asks for.
#[derive(Clone, Copy, Debug)]
pub struct Page {
    limit: u32,
    /// The id beyond which it begins.
    pub from: Uuid,
}

impl Page {
    /// A page that begins at the smallest id.
    ///
    /// # Errors
    /// INVALID naming `limit` or `cursor`.
    pub fn oldest_first(limit: u32, cursor: Option<&str>) -> Result<Self, Problem> {
        Self::of(limit, cursor, Uuid::nil())
    }

    /// A page that begins at the greatest id.
    ///
    /// # Errors
    /// INVALID naming `limit` or `cursor`.
    pub fn newest_first(limit: u32, cursor: Option<&str>) -> Result<Self, Problem> {
        Self::of(limit, cursor, Uuid::max())
    }

    fn of(limit: u32, cursor: Option<&str>, start: Uuid) -> Result<Self, Problem> {
        if !(1..=LIMIT_MAX).contains(&limit) {
            return Err(Problem::invalid(
                "limit",
                format!("must be from 1 to {LIMIT_MAX}"),
            ));
        }
        let from = match cursor {
            None => start,
            // The forms of ids that the house takes, whatever they are of.
            Some(cursor) => {
                cursor
                    .parse::<MachineId>()
                    .map_err(|_| Problem::invalid("cursor", "is not one that this list gave"))?
                    .0
            }
        };
        Ok(Self { limit, from })
    }

    /// How many rows to look for: one more than are shown, to know whether there are more.
    #[must_use]
    pub fn rows(&self) -> i64 {
        i64::from(self.limit) + 1
    }

    /// What is shown of the rows, and where the next page begins.
    pub fn cut<R, T>(
        &self,
        mut rows: Vec<R>,
        id: impl Fn(&R) -> Uuid,
        shown: impl FnMut(R) -> T,
    ) -> (Vec<T>, Option<String>) {
        let limit = self.limit as usize;
        let more = rows.len() > limit;
        rows.truncate(limit);
        let next = rows
            .last()
            .filter(|_| more)
            .map(|row| id(row).simple().to_string());
        (rows.into_iter().map(shown).collect(), next)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_cut_and_leads_to_the_next() -> Result<(), Problem> {
        let ids: Vec<Uuid> = (0..3).map(|_| Uuid::now_v7()).collect();
        let page = Page::oldest_first(2, None)?;
        let (shown, next) = page.cut(ids.clone(), |id| *id, |id| id);
        assert_eq!(shown.as_slice(), ids.get(..2).unwrap_or_default());
        let next = Page::oldest_first(2, next.as_deref())?;
        assert_eq!(Some(&next.from), ids.get(1));
        let (shown, next) = page.cut(ids.get(2..).unwrap_or_default().to_vec(), |id| *id, |id| id);
        assert_eq!((shown.len(), next), (1, None));
        assert!(Page::newest_first(0, None).is_err() && Page::newest_first(201, None).is_err());
        assert!(Page::newest_first(1, Some("x")).is_err());
        Ok(())
    }
}
