//! The few calls of libc that the standard library does not offer. The only file with unsafe code.

#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::time::Duration;

/// What woke the supervisor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wake {
    /// A child ended.
    Child,
    /// SIGINT, SIGTERM or SIGHUP: stop everything.
    Stop,
    /// SIGUSR1: start what the launch file now asks for besides.
    Reload,
}

/// Signals by the names that the rest of the crate uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Signal {
    /// SIGTERM.
    Terminate,
    /// SIGINT, which PostgreSQL takes as its fast shutdown.
    Interrupt,
    /// SIGQUIT, which PostgreSQL takes as its immediate shutdown.
    Quit,
    /// SIGUSR1.
    Reload,
    /// SIGKILL.
    Kill,
}

impl Signal {
    fn number(self) -> libc::c_int {
        match self {
            Self::Terminate => libc::SIGTERM,
            Self::Interrupt => libc::SIGINT,
            Self::Quit => libc::SIGQUIT,
            Self::Reload => libc::SIGUSR1,
            Self::Kill => libc::SIGKILL,
        }
    }
}

/// The effective user id.
pub fn user_id() -> u32 {
    // SAFETY: geteuid has no preconditions and cannot fail.
    unsafe { libc::geteuid() }
}

fn waited_set() -> libc::sigset_t {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set that it is given; sigaddset then gets an initialised set and valid
    // signal numbers.
    unsafe {
        libc::sigemptyset(set.as_mut_ptr());
        for number in [
            libc::SIGCHLD,
            libc::SIGINT,
            libc::SIGTERM,
            libc::SIGHUP,
            libc::SIGUSR1,
        ] {
            libc::sigaddset(set.as_mut_ptr(), number);
        }
        set.assume_init()
    }
}

/// Blocks the signals that [`wait_signal`] takes, so that none is lost between two waits.
pub fn block_signals() {
    let set = waited_set();
    // SAFETY: the set is initialised, and a null third argument means that the old mask is not wanted.
    unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, &set, std::ptr::null_mut()) };
}

/// Waits for one of the blocked signals, at most `timeout`.
pub fn wait_signal(timeout: Duration) -> Option<Wake> {
    let set = waited_set();
    let limit = libc::timespec {
        tv_sec: libc::time_t::try_from(timeout.as_secs()).unwrap_or(libc::time_t::MAX),
        tv_nsec: libc::c_long::from(timeout.subsec_nanos() as i32),
    };
    // SAFETY: the set and the time are initialised and live through the call; a null second argument means that the
    // signal's details are not wanted.
    let number = unsafe { libc::sigtimedwait(&set, std::ptr::null_mut(), &limit) };
    match number {
        libc::SIGCHLD => Some(Wake::Child),
        libc::SIGINT | libc::SIGTERM | libc::SIGHUP => Some(Wake::Stop),
        libc::SIGUSR1 => Some(Wake::Reload),
        _ => None,
    }
}

/// Makes the child die by `death` when the thread that spawns it ends (also by `kill -9`), and keeps from it every
/// file descriptor but the standard three. Spawn from the main thread only: the kernel watches the thread.
pub fn bind_to_parent(command: &mut Command, death: Signal) {
    let parent = std::process::id();
    let number = death.number();
    // SAFETY: the closure runs between fork and exec and makes system calls only, which are async-signal-safe; it
    // allocates nothing.
    unsafe {
        command.pre_exec(move || {
            if libc::prctl(libc::PR_SET_PDEATHSIG, number as libc::c_ulong) != 0 {
                return Err(io::Error::last_os_error());
            }
            // The parent may have died before the line above: nobody would send the signal then.
            if u32::try_from(libc::getppid()) != Ok(parent) {
                return Err(io::Error::from_raw_os_error(libc::ESRCH));
            }
            unblock_and_close();
            Ok(())
        });
    }
}

/// Makes the child a session of its own, without any inherited descriptor but the standard three.
pub fn detach(command: &mut Command) {
    // SAFETY: as in `bind_to_parent`.
    unsafe {
        command.pre_exec(|| {
            if libc::setsid() < 0 {
                return Err(io::Error::last_os_error());
            }
            unblock_and_close();
            Ok(())
        });
    }
}

/// For use between fork and exec: an empty signal mask, interrupts that are not ignored (a shell ignores them for what it starts
/// in the background, and that is inherited), and close-on-exec on all but the standard descriptors.
fn unblock_and_close() {
    let mut set = std::mem::MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: sigemptyset initialises the set before pthread_sigmask reads it; close_range with CLOEXEC and fcntl on a
    // number that is not open fail harmlessly.
    unsafe {
        libc::signal(libc::SIGINT, libc::SIG_DFL);
        libc::signal(libc::SIGQUIT, libc::SIG_DFL);
        libc::sigemptyset(set.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_SETMASK, set.as_ptr(), std::ptr::null_mut());
        let first: libc::c_uint = 3;
        let last = libc::c_uint::MAX;
        if libc::syscall(
            libc::SYS_close_range,
            first,
            last,
            libc::CLOSE_RANGE_CLOEXEC,
        ) != 0
        {
            // Kernels before 5.11.
            for descriptor in 3..1024 {
                libc::fcntl(descriptor, libc::F_SETFD, libc::FD_CLOEXEC);
            }
        }
    }
}

/// Sends a signal to a process for which `is_it` still holds once the process can no longer be replaced by another
/// of the same number. False when it is gone, is another, or may not be signalled.
pub fn send(pid: u32, signal: Signal, is_it: impl Fn() -> bool) -> bool {
    let Ok(number) = libc::pid_t::try_from(pid) else {
        return false;
    };
    if number <= 1 {
        return false;
    }
    // SAFETY: pidfd_open takes two integers; what it returns is a new descriptor, or negative.
    let opened = unsafe { libc::syscall(libc::SYS_pidfd_open, number, 0) };
    let Ok(raw) = libc::c_int::try_from(opened) else {
        return false;
    };
    if raw < 0 {
        let gone = io::Error::last_os_error().raw_os_error() == Some(libc::ESRCH);
        // Kernels before 5.3, and some sandboxes: there is a window between the check and the signal.
        // SAFETY: kill takes two integers.
        return !gone && is_it() && unsafe { libc::kill(number, signal.number()) } == 0;
    }
    // SAFETY: the descriptor was just made and belongs to nobody else.
    let handle = unsafe { OwnedFd::from_raw_fd(raw) };
    if !is_it() {
        return false;
    }
    let details = std::ptr::null::<libc::siginfo_t>();
    // SAFETY: the descriptor is open; null details mean those of a plain kill.
    let sent = unsafe {
        libc::syscall(
            libc::SYS_pidfd_send_signal,
            handle.as_raw_fd(),
            signal.number(),
            details,
            0 as libc::c_uint,
        )
    };
    sent == 0
}

/// Kills the process group of a child that is ours and not yet reaped, so that its number cannot be another's.
pub fn kill_group(leader: u32) {
    if let Ok(number) = libc::pid_t::try_from(leader)
        && number > 1
    {
        // SAFETY: kill takes two integers; a negative number means the group.
        unsafe { libc::kill(-number, libc::SIGKILL) };
    }
}
