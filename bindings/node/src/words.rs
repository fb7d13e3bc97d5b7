//! Memory of Rust that JavaScript sees as an ArrayBuffer. The only unsafe code of this crate.

#![allow(unsafe_code)]

use std::any::Any;
use std::ffi::c_void;
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use napi::bindgen_prelude::ToNapiValue;
use napi::{Result, Status, sys};

/// Words that stay where they are while their owner is held. As a JavaScript value: an ArrayBuffer over them, without a
/// copy, or `null` where the runtime allows no such buffer. napi's own would be a copy then, in which nothing ever moves.
///
/// JavaScript reads them by aligned loads of 4 or 8 bytes while Rust writes, and writes none.
pub struct Words {
    owner: Arc<dyn Any + Send + Sync>,
    first: *const AtomicU64,
    count: usize,
}

impl Words {
    /// What `part` shows of the owner. Make one value of it at the most: no two buffers may lie over the same memory.
    pub fn of<T: Any + Send + Sync>(owner: Arc<T>, part: impl FnOnce(&T) -> &[AtomicU64]) -> Words {
        let words = part(&owner);
        let (first, count) = (words.as_ptr(), words.len());
        Words { owner, first, count }
    }
}

impl ToNapiValue for Words {
    unsafe fn to_napi_value(env: sys::napi_env, words: Words) -> Result<sys::napi_value> {
        let (data, length) = (words.first as *mut c_void, words.count * size_of::<AtomicU64>());
        let owner = Box::into_raw(Box::new(words.owner));
        let mut value = ptr::null_mut();
        // SAFETY: the memory is that of a slice borrowed from inside the Arc. Nobody has the owner mutably as long as this
        // Arc is there, so the slice could be borrowed until it is dropped, which `let_go` does when the buffer is gone. It is
        // of atomics, which may change while they are read.
        let status = unsafe {
            sys::napi_create_external_arraybuffer(env, data, length, Some(let_go), owner.cast(), &mut value)
        };
        if status == sys::Status::napi_ok {
            return Ok(value);
        }
        // SAFETY: there is no buffer, so `let_go` will not be called with it.
        drop(unsafe { Box::from_raw(owner) });
        if status != sys::Status::napi_no_external_buffers_allowed {
            return Err(napi::Error::from_status(Status::from(status)));
        }
        // SAFETY: the environment is the one that napi called with.
        unsafe { napi::bindgen_prelude::Null::to_napi_value(env, napi::bindgen_prelude::Null) }
    }
}

unsafe extern "C" fn let_go(_: sys::napi_env, _: *mut c_void, owner: *mut c_void) {
    // SAFETY: it is the box that `to_napi_value` gave away with the buffer, which is gone; this is called once.
    drop(unsafe { Box::from_raw(owner.cast::<Arc<dyn Any + Send + Sync>>()) });
}
