//! Tells the linker that the symbols of Node-API come from the running Node process.

fn main() {
    napi_build::setup();
}
