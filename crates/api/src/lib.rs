//! The custom resources, names and YAML of the project
