//! Keys, certificates, tokens, releases and policy: everything that turns bytes into proof.
