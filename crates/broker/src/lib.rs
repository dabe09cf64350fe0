//! Several processes drive the same cards: protocol, broker, client and Bus.
