//! Messages and client of the pod-resources API, generated from `podresources.proto` and checked
//! in: the build needs no protoc. A test generates them anew and compares.

include!("generated.rs");
