//! What a Hearth task author writes against.
