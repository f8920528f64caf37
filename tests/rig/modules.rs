//! Which kernel modules are loaded, and in which order: each behind those it depends on.
//!
//! The package brings no `modules.dep` (that is made when it is installed), so the modules themselves are
//! asked: strings in each name what it needs (`depends=`) and what it would like before it (`softdep=`).

use std::collections::BTreeSet;

use anyhow::{Context, Result, ensure};

use crate::kernel::Kernel;

/// A module to load.
pub(crate) struct Module {
    /// Its name, with underscores.
    pub(crate) name: String,
    /// What is written behind it when it is loaded.
    pub(crate) parameters: String,
    /// Its file.
    pub(crate) bytes: Vec<u8>,
}

/// The modules `asked` for, each a name with `:parameter=value` behind it, and what they depend on.
pub(crate) fn load_order(kernel: &Kernel, asked: &[String]) -> Result<Vec<Module>> {
    let mut order = Order { kernel, seen: BTreeSet::new(), modules: Vec::new() };
    for item in asked {
        let mut words = item.split(':');
        let name = words.next().unwrap_or_default().replace('-', "_");
        let parameters = words.collect::<Vec<_>>().join(" ");
        ensure!(!parameters.contains('\n'), "a module's parameter has a line break in it");
        order.visit(&name, None)?;
        if let Some(module) = order.modules.iter_mut().find(|module| module.name == name) {
            module.parameters = parameters;
        }
    }
    Ok(order.modules)
}

struct Order<'a> {
    kernel: &'a Kernel,
    seen: BTreeSet<String>,
    modules: Vec<Module>,
}

impl Order<'_> {
    fn visit(&mut self, name: &str, needed_by: Option<&str>) -> Result<()> {
        if !self.seen.insert(name.to_owned()) || self.kernel.is_built_in(name) {
            return Ok(());
        }
        let bytes = self.kernel.module(name).with_context(|| match needed_by {
            Some(other) => format!("the module {other} needs {name}"),
            None => "see lib/modules in Debian's kernel package for what there is".to_owned(),
        })?;
        for needed in strings(&bytes, b"depends=").flat_map(|list| list.split(',')).filter(|name| !name.is_empty()) {
            self.visit(&needed.replace('-', "_"), Some(name))?;
        }
        for wish in strings(&bytes, b"softdep=") {
            let before = wish.split("post:").next().unwrap_or_default().trim_start_matches("pre:");
            for liked in before.split_whitespace().map(|name| name.replace('-', "_")) {
                if self.kernel.has_module(&liked) {
                    self.visit(&liked, Some(name))?;
                }
            }
        }
        self.modules.push(Module { name: name.to_owned(), parameters: String::new(), bytes });
        Ok(())
    }
}

/// What stands behind `key` in the zero-ended strings of a file.
fn strings<'a>(bytes: &'a [u8], key: &'a [u8]) -> impl Iterator<Item = &'a str> {
    bytes.split(|byte| *byte == 0).filter_map(move |text| std::str::from_utf8(text.strip_prefix(key)?).ok())
}
