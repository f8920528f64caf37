//! Settings under /proc/sys/net, of the network namespace that we run in.

use std::fs;
use std::io;
use std::path::PathBuf;

use crate::plan::RouterBefore;

const ROOT: &str = "/proc/sys/net";
const FORWARD_IPV4: &str = "ipv4/ip_forward";
const FORWARD_IPV6: &str = "ipv6/conf/all/forwarding";

fn path(setting: &str) -> PathBuf {
    PathBuf::from(ROOT).join(setting)
}

fn is_on(setting: &str) -> io::Result<bool> {
    Ok(fs::read_to_string(path(setting))?.trim() != "0")
}

fn set(setting: &str, value: &str) -> io::Result<()> {
    let path = path(setting);
    if fs::read_to_string(&path)?.trim() == value {
        return Ok(());
    }
    fs::write(path, value)
}

/// Which families the host forwards now.
pub(super) fn forwards() -> io::Result<RouterBefore> {
    Ok(RouterBefore {
        ipv4: is_on(FORWARD_IPV4)?,
        ipv6: is_on(FORWARD_IPV6)?,
    })
}

/// Lets the host forward both families. A host that takes its own address from router advertisements would
/// stop listening to them then: those links are told to go on.
pub(super) fn forward() -> io::Result<()> {
    set(FORWARD_IPV4, "1")?;
    for entry in fs::read_dir(path("ipv6/conf"))? {
        let accept = entry?.path().join("accept_ra");
        // A link may go while we look.
        if fs::read_to_string(&accept).is_ok_and(|value| value.trim() == "1") {
            fs::write(accept, "2").or_else(gone)?;
        }
    }
    set(FORWARD_IPV6, "1")
}

/// Puts forwarding back to what it was.
pub(super) fn restore(before: RouterBefore) -> io::Result<()> {
    if !before.ipv4 {
        set(FORWARD_IPV4, "0")?;
    }
    if !before.ipv6 {
        set(FORWARD_IPV6, "0")?;
    }
    Ok(())
}

/// Settings of a tap: no address that the kernel invents, no word of a guest taken for a router's.
pub(super) fn set_up_tap(tap: &str) -> io::Result<()> {
    set(&format!("ipv6/conf/{tap}/disable_ipv6"), "0")?;
    set(&format!("ipv6/conf/{tap}/addr_gen_mode"), "1")?;
    set(&format!("ipv6/conf/{tap}/accept_ra"), "0")?;
    set(&format!("ipv6/conf/{tap}/accept_redirects"), "0")?;
    set(&format!("ipv4/conf/{tap}/accept_redirects"), "0")?;
    set(&format!("ipv4/conf/{tap}/send_redirects"), "0")
}

fn gone(error: io::Error) -> io::Result<()> {
    if error.kind() == io::ErrorKind::NotFound {
        Ok(())
    } else {
        Err(error)
    }
}
