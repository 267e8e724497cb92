//! Network interfaces that are never announced on.

/// `MetalLB`'s patterns (regular expressions) for the interfaces of container runtimes and network plugins: what the
/// `ConfigMap` `metallb-excludel2` holds when it is rendered, and what is in force when the speaker finds no list.
pub const DEFAULT_EXCLUDED_INTERFACES: [&str; 14] = [
    "^docker.*",
    "^cbr.*",
    "^dummy.*",
    "^virbr.*",
    "^lxcbr.*",
    "^veth.*",
    "^lo$",
    "^cali.*",
    "^tunl.*",
    "^flannel.*",
    "^kube-ipvs.*",
    "^cni.*",
    "^nodelocaldns.*",
    "^lxc.*",
];
