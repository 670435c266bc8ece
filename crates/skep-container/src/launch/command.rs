//! Finding and executing a command, with Docker's reasons when it cannot be.

use std::ffi::CString;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use nix::errno::Errno;
use nix::unistd::execve;

use crate::proto::{ExecFailure, ExecFailureKind};

/// Replaces this process by `args`; returns only the reason why not. A first word without a slash is
/// searched in the PATH of `env`.
pub(super) fn execute(args: &[String], env: &[String]) -> ExecFailure {
    let command = args.first().cloned().unwrap_or_default();
    let failure = |kind| ExecFailure { kind, command: command.clone() };
    let (Ok(argv), Ok(envp)) = (c_strings(args), c_strings(env)) else {
        return failure(ExecFailureKind::Other(nix::libc::EINVAL));
    };
    if command.contains('/') {
        return failure(attempt(Path::new(&command), &argv, &envp));
    }
    if command.is_empty() {
        return failure(ExecFailureKind::NotInPath);
    }
    let path = env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or("");
    for dir in path.split(':') {
        let dir = if dir.is_empty() { "." } else { dir };
        match attempt(&Path::new(dir).join(&command), &argv, &envp) {
            // Not here, or not executable here; as a shell does, look on.
            ExecFailureKind::NoSuchFile
            | ExecFailureKind::PermissionDenied
            | ExecFailureKind::IsADirectory => {}
            kind => return failure(kind),
        }
    }
    failure(ExecFailureKind::NotInPath)
}

fn attempt(file: &Path, argv: &[CString], envp: &[CString]) -> ExecFailureKind {
    let Ok(path) = CString::new(file.as_os_str().as_bytes()) else {
        return ExecFailureKind::NoSuchFile;
    };
    let Err(errno) = execve(&path, argv, envp);
    match errno {
        Errno::ENOENT if file.exists() => ExecFailureKind::NoInterpreter,
        Errno::ENOENT | Errno::ENOTDIR => ExecFailureKind::NoSuchFile,
        Errno::EACCES if file.is_dir() => ExecFailureKind::IsADirectory,
        Errno::EACCES | Errno::EPERM => ExecFailureKind::PermissionDenied,
        Errno::ENOEXEC => ExecFailureKind::BadFormat,
        other => ExecFailureKind::Other(other as i32),
    }
}

fn c_strings(words: &[String]) -> Result<Vec<CString>, std::ffi::NulError> {
    words.iter().map(|w| CString::new(w.as_str())).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons() {
        let run = |command: &str| {
            execute(&[command.to_owned()], &["PATH=/nowhere:/proc/self".to_owned()]).kind
        };
        assert_eq!(run("no-such-program"), ExecFailureKind::NotInPath);
        assert_eq!(run("status"), ExecFailureKind::NotInPath, "not executable, so not found");
        assert_eq!(run("/no/such/program"), ExecFailureKind::NoSuchFile);
        assert_eq!(run("/etc"), ExecFailureKind::IsADirectory);
        assert_eq!(run("/etc/passwd"), ExecFailureKind::PermissionDenied);
        assert_eq!(run(""), ExecFailureKind::NotInPath);
    }
}
