/**
 * Imported first by every entry that may start a process with ONNX Runtime in it: the native library of 1.29 and later
 * sends usage data unless this variable is set before it loads. Child processes inherit it.
 */
process.env["ORT_DISABLE_TELEMETRY"] = "1";
