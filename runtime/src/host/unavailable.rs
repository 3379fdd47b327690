//! Host functions whose service this node does not run: linked, so that modules that import them load, and answering
//! with their documented failure and one log line.

use crate::abi::{give, view};
use crate::guest::GuestState;
use wasmtime::{Caller, FuncType, Linker, Result, Val, ValType};

/// A host function's answer when its service is not there.
enum Failure {
    /// The function returns nothing.
    Nothing,
    /// `0` as `i32`.
    ZeroI32,
    /// `0` as `i64`: also an empty string.
    ZeroI64,
    /// A JSON document.
    Json(&'static str),
}

/// Parameters: `s` is a string or bytes (pointer and length), `l` a 64-bit number.
struct Function {
    name: &'static str,
    parameters: &'static str,
    failure: Failure,
}

const fn function(name: &'static str, parameters: &'static str, failure: Failure) -> Function {
    Function { name, parameters, failure }
}

const FUNCTIONS: [Function; 16] = [
    function("get_secret", "s", Failure::ZeroI64),
    function("db_query", "ss", Failure::ZeroI64),
    function("db_execute", "ss", Failure::ZeroI32),
    function("db_query_v2", "ss", Failure::Json(r#"{"rows":[],"error":"not available on this node"}"#)),
    function(
        "db_execute_v2",
        "ss",
        Failure::Json(r#"{"rows_affected":0,"last_insert_id":0,"error":"not available on this node"}"#),
    ),
    function(
        "db_transaction",
        "s",
        Failure::Json(
            r#"{"committed":false,"results":[],"failed_index":-1,"error":"not available on this node","code":"UNAVAILABLE"}"#,
        ),
    ),
    function(
        "db_query_batch",
        "s",
        Failure::Json(
            r#"{"results":[],"failed_index":-1,"error":"not available on this node","code":"UNAVAILABLE"}"#,
        ),
    ),
    function("cache_get", "s", Failure::ZeroI64),
    function("cache_set", "ssl", Failure::Nothing),
    function("cache_delete", "s", Failure::ZeroI32),
    function("cache_incr", "s", Failure::ZeroI64),
    function("cache_incr_by", "sl", Failure::ZeroI64),
    function("http_fetch", "ssss", Failure::Json(r#"{"status":0,"error":"not available on this node"}"#)),
    function("storage_put", "s", Failure::ZeroI64),
    function("storage_get", "s", Failure::ZeroI64),
    function("pubsub_publish", "ss", Failure::ZeroI32),
];

pub(super) fn link(linker: &mut Linker<GuestState>, module: &str) -> Result<()> {
    for Function { name, parameters, failure } in &FUNCTIONS {
        let mut types = Vec::new();
        for parameter in parameters.chars() {
            match parameter {
                's' => types.extend([ValType::I32, ValType::I32]),
                _ => types.push(ValType::I64),
            }
        }
        let result = match failure {
            Failure::Nothing => None,
            Failure::ZeroI32 => Some(ValType::I32),
            Failure::ZeroI64 | Failure::Json(_) => Some(ValType::I64),
        };
        let signature = FuncType::new(linker.engine(), types, result);
        linker.func_new_async(module, name, signature, move |mut caller, arguments, results| {
            Box::new(async move {
                check(&mut caller, name, parameters, arguments)?;
                caller.data_mut().log_failure(name, "not available on this node");
                let result = match failure {
                    Failure::Nothing => return Ok(()),
                    Failure::ZeroI32 => Val::I32(0),
                    Failure::ZeroI64 => Val::I64(0),
                    Failure::Json(text) => Val::I64(give(&mut caller, name, text.as_bytes()).await?),
                };
                if let Some(slot) = results.first_mut() {
                    *slot = result;
                }
                Ok(())
            })
        })?;
    }
    Ok(())
}

/// Traps when a string argument is not within the guest's memory.
fn check(
    caller: &mut Caller<'_, GuestState>,
    name: &'static str,
    parameters: &str,
    mut arguments: &[Val],
) -> Result<()> {
    let (memory, _) = view(caller)?;
    for parameter in parameters.chars() {
        arguments = match (parameter, arguments) {
            ('s', [Val::I32(pointer), Val::I32(length), rest @ ..]) => {
                memory.bytes(*pointer as u32, *length as u32).map_err(|error| error.trap(name))?;
                rest
            }
            (_, [_, rest @ ..]) => rest,
            (_, []) => break,
        };
    }
    Ok(())
}
