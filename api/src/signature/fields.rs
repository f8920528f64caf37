//! As much of structured field values (RFC 9651) as the headers of a signature need: dictionaries whose
//! members are inner lists of strings with parameters, or bytes between colons. What is not in the form in
//! which we would write it is refused: one text, one meaning.

use data_encoding::BASE64;

/// Components that a signature may cover.
const COMPONENTS_MAX: usize = 16;

/// The value of a dictionary's member, verbatim. Members are separated by commas outside strings.
pub(super) fn member<'a>(dictionary: &'a str, key: &str) -> Option<&'a str> {
    let mut quoted = false;
    let mut found = None;
    let mut start = 0;
    let ends = dictionary.char_indices().filter_map(|(at, symbol)| {
        quoted ^= symbol == '"';
        (symbol == ',' && !quoted).then_some(at)
    });
    for end in ends.chain([dictionary.len()]) {
        let member = dictionary
            .get(start..end)
            .unwrap_or_default()
            .trim_matches([' ', '\t']);
        if let Some((name, value)) = member.split_once('=')
            && name == key
        {
            // Of two members of one name the last counts (RFC 9651 section 3.2); here neither does.
            if found.is_some() {
                return None;
            }
            found = Some(value);
        }
        start = end + 1;
    }
    found
}

/// Bytes between colons.
pub(super) fn binary(value: &str) -> Option<Vec<u8>> {
    let inner = value.strip_prefix(':')?.strip_suffix(':')?;
    BASE64.decode(inner.as_bytes()).ok()
}

/// A member of `Signature-Input`.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Input<'a> {
    pub(super) components: Vec<&'a str>,
    pub(super) created: Option<u64>,
    pub(super) nonce: Option<&'a str>,
    pub(super) keyid: Option<&'a str>,
    pub(super) alg: Option<&'a str>,
    pub(super) tag: Option<&'a str>,
}

impl<'a> Input<'a> {
    pub(super) fn parse(text: &'a str) -> Result<Self, &'static str> {
        let mut input = Self::default();
        let (list, mut rest) = text
            .strip_prefix('(')
            .and_then(|text| text.split_once(')'))
            .ok_or("its components are not in brackets")?;
        for item in list.split(' ') {
            let name = item
                .strip_prefix('"')
                .and_then(|item| item.strip_suffix('"'))
                .filter(|name| is_component(name))
                .ok_or("a component is not a lower-case name in quotes, without parameters")?;
            if input.components.contains(&name) {
                return Err("a component is covered twice");
            }
            if input.components.len() == COMPONENTS_MAX {
                return Err("it covers too many components");
            }
            input.components.push(name);
        }
        while !rest.is_empty() {
            let (name, value) = rest
                .strip_prefix(';')
                .and_then(|rest| rest.split_once('='))
                .ok_or("a parameter is not `;name=value`")?;
            let seen = if name == "created" {
                let digits = value
                    .find(|symbol: char| !symbol.is_ascii_digit())
                    .unwrap_or(value.len());
                let (number, after) = value.split_at(digits);
                rest = after;
                let number = number
                    .parse()
                    .map_err(|_| "`created` is not a number of seconds")?;
                input.created.replace(number).is_some()
            } else {
                let (value, after) = value
                    .strip_prefix('"')
                    .and_then(|value| value.split_once('"'))
                    .filter(|(value, _)| {
                        value
                            .bytes()
                            .all(|byte| byte != b'\\' && (0x20..0x7f).contains(&byte))
                    })
                    .ok_or("a parameter's value is not a plain string")?;
                rest = after;
                let place = match name {
                    "nonce" => &mut input.nonce,
                    "keyid" => &mut input.keyid,
                    "alg" => &mut input.alg,
                    "tag" => &mut input.tag,
                    _ => return Err("it has a parameter that is not known here"),
                };
                place.replace(value).is_some()
            };
            if seen {
                return Err("a parameter is there twice");
            }
        }
        Ok(input)
    }
}

fn is_component(name: &str) -> bool {
    let bare = name.strip_prefix('@').unwrap_or(name);
    !bare.is_empty()
        && bare
            .bytes()
            .all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
}
