//! Counting the rows of a table in an SQLite file, by its documented format: pages, tables as trees of pages, cells.
//! Nothing is locked: while somebody writes the count may be a little old or, for once, absent.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::path::Path;

/// The most pages that are looked at.
const PAGES_MAX: usize = 200_000;
/// What begins such a file.
const MAGIC: &[u8] = b"SQLite format 3\0";
/// Bytes before the first page's own header.
const FILE_HEADER: usize = 100;
/// Kinds of pages.
const INTERIOR: u8 = 5;
const LEAF: u8 = 13;

/// How many rows a table has; `None` when the file cannot be read or has no such table.
pub(super) fn count(path: &Path, table: &str) -> Option<u32> {
    let mut file = Pages::open(path)?;
    let root = file.root_of(table)?;
    let mut rows = 0_u32;
    file.leaves(root, |page, header| {
        rows = rows.saturating_add(u32::from(number16(page, header + 3)?));
        Some(())
    })?;
    Some(rows)
}

struct Pages {
    file: File,
    size: usize,
}

impl Pages {
    fn open(path: &Path) -> Option<Self> {
        let mut file = File::open(path).ok()?;
        let mut header = [0; FILE_HEADER];
        file.read_exact(&mut header).ok()?;
        let size = match number16(&header, 16)? {
            1 => 65_536,
            size => usize::from(size),
        };
        (header.starts_with(MAGIC) && size >= 512).then_some(Self { file, size })
    }

    fn page(&mut self, number: u32) -> Option<Vec<u8>> {
        let at = u64::from(number.checked_sub(1)?) * self.size as u64;
        let mut page = vec![0; self.size];
        self.file.seek(SeekFrom::Start(at)).ok()?;
        self.file.read_exact(&mut page).ok()?;
        Some(page)
    }

    /// Walks the leaves of a tree: each page, and where its header begins.
    fn leaves(
        &mut self,
        root: u32,
        mut leaf: impl FnMut(&[u8], usize) -> Option<()>,
    ) -> Option<()> {
        let mut waiting = vec![root];
        let mut seen = 0;
        while let Some(number) = waiting.pop() {
            seen += 1;
            if seen > PAGES_MAX || waiting.len() > PAGES_MAX {
                return None;
            }
            let page = self.page(number)?;
            let header = if number == 1 { FILE_HEADER } else { 0 };
            match *page.get(header)? {
                LEAF => leaf(&page, header)?,
                INTERIOR => {
                    for cell in 0..usize::from(number16(&page, header + 3)?) {
                        let at = usize::from(number16(&page, header + 12 + 2 * cell)?);
                        waiting.push(number32(&page, at)?);
                    }
                    waiting.push(number32(&page, header + 8)?);
                }
                _ => return None,
            }
        }
        Some(())
    }

    /// The first page of a table, from the table of tables.
    fn root_of(&mut self, table: &str) -> Option<u32> {
        let mut root = None;
        self.leaves(1, |page, header| {
            for cell in 0..usize::from(number16(page, header + 3)?) {
                let at = usize::from(number16(page, header + 8 + 2 * cell)?);
                // A row that does not fit into its page is none that we look for.
                root = root.or_else(|| described(page.get(at..)?, table));
            }
            Some(())
        })?;
        root
    }
}

/// The first page that a row of the table of tables (`type, name, tbl_name, rootpage, sql`) gives for a table.
fn described(cell: &[u8], table: &str) -> Option<u32> {
    let mut at = 0;
    let _length = varint(cell, &mut at)?;
    let _row = varint(cell, &mut at)?;
    let record = cell.get(at..)?;
    let mut at = 0;
    let header = usize::try_from(varint(record, &mut at)?).ok()?;
    let mut columns = [(0, 0); 4];
    let mut begin = header;
    for column in &mut columns {
        let kind = varint(record, &mut at)?;
        let length = match kind {
            0 | 8 | 9 => 0,
            1..=4 => usize::try_from(kind).ok()?,
            5 => 6,
            6 | 7 => 8,
            12.. => usize::try_from((kind - 12) / 2).ok()?,
            _ => return None,
        };
        *column = (begin, length);
        begin = begin.checked_add(length)?;
    }
    let [kind, name, _, root] = columns.map(|(begin, length)| {
        record
            .get(begin..begin.saturating_add(length))
            .unwrap_or_default()
    });
    (kind == b"table" && name == table.as_bytes()).then(|| {
        root.iter()
            .fold(0_u32, |number, byte| (number << 8) | u32::from(*byte))
    })
}

fn number16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn number32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

fn varint(bytes: &[u8], at: &mut usize) -> Option<u64> {
    let mut value = 0;
    for index in 0..9 {
        let byte = u64::from(*bytes.get(*at)?);
        *at += 1;
        if index == 8 {
            return Some((value << 8) | byte);
        }
        value = (value << 7) | (byte & 0x7f);
        if byte < 0x80 {
            return Some(value);
        }
    }
    None
}
