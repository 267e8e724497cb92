//! Operands as typed objects: a MetalLB resource in, Kubernetes objects out
