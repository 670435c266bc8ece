/// Colours for a terminal, or none.
pub struct Paint {
    pub colours: bool,
}

impl Paint {
    pub fn bold(&self, text: &str) -> String {
        self.with("1", text)
    }

    pub fn dim(&self, text: &str) -> String {
        self.with("2", text)
    }

    pub fn good(&self, text: &str) -> String {
        self.with("32", text)
    }

    pub fn bad(&self, text: &str) -> String {
        self.with("31", text)
    }

    fn with(&self, code: &str, text: &str) -> String {
        if self.colours { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}
