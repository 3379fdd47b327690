//! The commands of a developer's day: `dev`, and the tests of a function.

use super::{CompilerChoice, Listen, SchedulerChoice};
use clap::Args;
use std::path::PathBuf;

#[derive(Args)]
pub struct Dev {
    /// Folders in which the functions are, at any depth
    #[arg(value_name = "DIR", default_value = ".")]
    pub dirs: Vec<PathBuf>,
    /// Address to listen on [default: 127.0.0.1:6001, or a free port when that is in use]
    #[arg(long, value_name = "ADDR")]
    pub listen: Option<Listen>,
    /// Folder of the node's data [default: .orama/dev in the first DIR]
    #[arg(long, value_name = "DIR")]
    pub home: Option<PathBuf>,
    /// Config file of the node (TOML); ORAMA_... variables of a node are not read
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// File with a NAME=VALUE line for each secret of the functions
    #[arg(long, value_name = "PATH")]
    pub env_file: Option<PathBuf>,
    /// The input that `i` sends at first
    #[arg(long, short, value_name = "JSON", default_value = "{}")]
    pub data: String,
    /// Compiler for Go code
    #[arg(long, value_enum, default_value_t = CompilerChoice::Auto)]
    pub compiler: CompilerChoice,
    /// How goroutines run in modules that TinyGo builds
    #[arg(long, value_enum, default_value_t = SchedulerChoice::Auto)]
    pub scheduler: SchedulerChoice,
}

#[derive(Args)]
pub struct FunctionTest {
    /// The function's folder
    #[arg(default_value = ".")]
    pub dir: PathBuf,
    /// Run only the cases whose name contains this; `*` stands for any characters
    #[arg(long, value_name = "PATTERN")]
    pub run: Option<String>,
    /// Config file of the node (TOML), for example with the hosts that the function may reach
    #[arg(long, value_name = "FILE")]
    pub config: Option<PathBuf>,
    /// Compiler for Go code
    #[arg(long, value_enum, default_value_t = CompilerChoice::Auto)]
    pub compiler: CompilerChoice,
    /// How goroutines run in a module that TinyGo builds
    #[arg(long, value_enum, default_value_t = SchedulerChoice::Auto)]
    pub scheduler: SchedulerChoice,
}
