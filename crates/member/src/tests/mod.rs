mod lan;
mod machine;
