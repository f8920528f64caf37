//! The signature base: the text that is signed (RFC 9421 section 2.5).

use http::HeaderMap;

use super::Target;

/// The base over `components` of a request. `parameters` is the value of `@signature-params`, verbatim.
pub(super) fn signature_base(
    target: Target<'_>,
    headers: &HeaderMap,
    components: &[&str],
    parameters: &str,
) -> Result<String, &'static str> {
    let mut base = String::new();
    for name in components {
        let value = match *name {
            "@method" => target.method.as_str().to_owned(),
            "@path" => target.path.to_owned(),
            // Without a query the component is a lone question mark.
            "@query" => format!("?{}", target.query.unwrap_or_default()),
            "@authority" => field(headers, "host")?.to_ascii_lowercase(),
            name if name.starts_with('@') => return Err("it covers a component that is not known here"),
            name => field(headers, name)?,
        };
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {parameters}"));
    Ok(base)
}

/// The combined value of a header field.
fn field(headers: &HeaderMap, name: &str) -> Result<String, &'static str> {
    let values = headers
        .get_all(name)
        .iter()
        .map(|value| value.to_str().map(str::trim))
        .collect::<Result<Vec<_>, _>>()
        .map_err(|_| "it covers a header that is not ASCII")?;
    if values.is_empty() {
        return Err("it covers a header that is not there");
    }
    Ok(values.join(", "))
}
