//! Campaigns that are tests: run by name in their long form, with figures on a line of their own.

use serde_json::Value;

use crate::shell;

/// What a campaign has found.
pub(crate) struct Found {
    figures: Value,
    failure: Option<String>,
}

impl Found {
    /// Runs the one `test` of the workspace that `target` selects (`--lib`, `--test NAME`), with numbers in
    /// its environment.
    pub(crate) fn by(target: &[&str], test: &str, numbers: &[(&str, u64)]) -> Result<Self, String> {
        let mut command = shell::cargo();
        // The whole workspace, so that nothing is compiled that the tests do not need anyway.
        command
            .args(["test", "--quiet", "--workspace"])
            .args(target);
        command.args([test, "--", "--exact", "--nocapture"]);
        for (name, number) in numbers {
            command.env(name, number.to_string());
        }
        // A campaign that lost something fails as a test and has figures all the same.
        let (failure, text) = shell::output_of_either(&mut command)?;
        let line = text
            .lines()
            .find_map(|line| line.trim_start_matches('.').trim().strip_prefix("figures "));
        let figures = line
            .and_then(|line| serde_json::from_str(line).ok())
            .ok_or_else(|| format!("the campaign printed no figures\n{text}"))?;
        Ok(Self { figures, failure })
    }

    /// A figure by its name.
    pub(crate) fn value(&self, name: &str) -> f64 {
        self.figures[name].as_f64().unwrap_or(f64::NAN)
    }

    /// Fails if the test did, whatever its figures say.
    pub(crate) fn passed(self) -> Result<(), String> {
        self.failure.map_or(Ok(()), Err)
    }
}
