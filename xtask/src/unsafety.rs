//! `unsafe` stays in `skep-sys`. The lint already forbids it elsewhere; this catches an `allow` that
//! would switch the lint off.

use std::path::Path;

use anyhow::{Context as _, Result, bail};

pub fn check() -> Result<()> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("find the workspace")?;
    let mut faults = Vec::new();
    for entry in std::fs::read_dir(root.join("crates")).context("list crates")? {
        let path = entry.context("list crates")?.path();
        if path.file_name().is_some_and(|name| name != "skep-sys") {
            visit(&path, &mut faults)?;
        }
    }
    if !faults.is_empty() {
        bail!("unsafe code outside skep-sys:\n{}", faults.join("\n"));
    }
    println!("unsafe: only in skep-sys");
    Ok(())
}

fn visit(folder: &Path, faults: &mut Vec<String>) -> Result<()> {
    for entry in std::fs::read_dir(folder).with_context(|| format!("list {}", folder.display()))? {
        let path = entry.with_context(|| format!("list {}", folder.display()))?.path();
        if path.is_dir() {
            if path.file_name().is_some_and(|name| name == "target") {
                continue; // what the fuzz targets' own builds leave behind
            }
            visit(&path, faults)?;
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = std::fs::read_to_string(&path)
                .with_context(|| format!("read {}", path.display()))?;
            for (number, line) in text.lines().enumerate() {
                if is_unsafe(line) {
                    faults.push(format!("{}:{}", path.display(), number + 1));
                }
            }
        }
    }
    Ok(())
}

fn is_unsafe(line: &str) -> bool {
    let code = line.split("//").next().unwrap_or_default();
    ["unsafe {", "unsafe fn", "unsafe impl", "allow(unsafe_code"]
        .iter()
        .any(|word| code.contains(word))
}

#[cfg(test)]
mod tests {
    use super::is_unsafe;

    #[test]
    fn words_in_comments_do_not_count() {
        assert!(is_unsafe("let x = unsafe { f() };"));
        assert!(!is_unsafe("// unsafe { f() }"));
    }
}
