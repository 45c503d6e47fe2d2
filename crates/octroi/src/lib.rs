//! octroi
