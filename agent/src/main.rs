//! The agent's program.

fn main() -> std::process::ExitCode {
    dashfleet_agent::main()
}
