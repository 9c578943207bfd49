//! Windows' access lists, as text (SDDL): whether a file or folder is in the hands of the machine's owner alone. It is
//! nothing but text, so that it can be tried on every system.

/// The system, administrators, and the installer of Windows itself, as SDDL writes them: short, or as numbers.
const TRUSTED: [&str; 5] = [
    "SY",
    "BA",
    "S-1-5-18",
    "S-1-5-32-544",
    "S-1-5-80-956008885-3418522649-1831038044-1853292631-2271478464",
];
/// Whoever the owner is: the owner is looked at by itself.
const OWNER: [&str; 2] = ["OW", "S-1-3-4"];
/// Rights that change nothing, as SDDL names them: reading, executing, and looking at attributes.
const HARMLESS: [&str; 9] = ["FR", "FX", "GR", "GX", "RC", "CC", "SW", "WP", "LO"];
/// Rights that change something: writing, appending, attributes, deleting (also what is inside), the access list, the
/// owner, and everything.
const CHANGING: u32 = 0x2
    | 0x4
    | 0x10
    | 0x40
    | 0x100
    | 0x0001_0000
    | 0x0004_0000
    | 0x0008_0000
    | 0x1000_0000
    | 0x4000_0000;

/// Whether only the system, administrators and this user (a SID) can have written it; `what` is what it is, for the
/// refusal. What is not understood is refused.
///
/// # Errors
/// Who else could have.
pub fn check(sddl: &str, user: &str, what: &str) -> Result<(), String> {
    let trusted = |sid: &str| TRUSTED.contains(&sid) || (!user.is_empty() && sid == user);
    let owner = sddl
        .strip_prefix("O:")
        .map(|rest| rest.split_once("G:").map_or(rest, |(owner, _)| owner))
        .map(|owner| owner.split_once("D:").map_or(owner, |(owner, _)| owner))
        .ok_or_else(|| format!("{what} has no owner that can be read"))?;
    if !trusted(owner) {
        return Err(format!(
            "{what} belongs to {owner}; it must belong to administrators or to the agent's user"
        ));
    }
    // Auditing comes after it, and grants nothing.
    let list = sddl
        .split_once("D:")
        .map(|(_, list)| list.split_once("S:(").map_or(list, |(list, _)| list))
        .and_then(|list| list.split_once('('))
        .map(|(_, list)| list)
        .ok_or_else(|| format!("{what} has no access list: everybody may write it"))?;
    for entry in list.trim_end().trim_end_matches(')').split(")(") {
        let fields: Vec<&str> = entry.split(';').collect();
        let [kind, flags, rights, _, _, sid, ..] = fields.as_slice() else {
            return Err(format!("{what} has an access list that is not understood"));
        };
        // Denials grant nothing; what only folders below inherit grants nothing here.
        let denies = matches!(*kind, "D" | "OD" | "XD");
        let inherited_only = pairs(flags).any(|flag| flag == "IO");
        if denies || inherited_only || trusted(sid) || OWNER.contains(sid) {
            continue;
        }
        if changes(rights) {
            return Err(format!(
                "{what} can be written by {sid}; only administrators and the agent's user may"
            ));
        }
    }
    Ok(())
}

fn changes(rights: &str) -> bool {
    match rights.strip_prefix("0x") {
        Some(bits) => u32::from_str_radix(bits, 16).map_or(true, |bits| bits & CHANGING != 0),
        None => pairs(rights).any(|right| !HARMLESS.contains(&right)),
    }
}

/// SDDL's names of flags and rights stand side by side, two letters each.
fn pairs(text: &str) -> impl Iterator<Item = &str> {
    (0..text.len())
        .step_by(2)
        .map(move |start| text.get(start..start + 2).unwrap_or("?"))
}
