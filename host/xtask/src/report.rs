//! Figures with targets: printed as a table, kept as JSON, judged.

use std::fs;

use serde_json::json;

use crate::shell;

/// Which way a figure is better.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Better {
    Higher,
    Lower,
}

/// One measured figure and what is asked of it.
pub(crate) struct Figure {
    pub(crate) figure: String,
    pub(crate) value: f64,
    pub(crate) unit: &'static str,
    pub(crate) must: Option<f64>,
    pub(crate) aim: Option<f64>,
    pub(crate) better: Better,
}

impl Figure {
    /// A figure without a target.
    pub(crate) fn info(figure: impl Into<String>, value: f64, unit: &'static str) -> Self {
        Self {
            figure: figure.into(),
            value,
            unit,
            must: None,
            aim: None,
            better: Better::Higher,
        }
    }

    /// A figure that must reach `must`.
    pub(crate) fn at_least(
        figure: impl Into<String>,
        value: f64,
        unit: &'static str,
        must: f64,
    ) -> Self {
        Self {
            must: Some(must),
            ..Self::info(figure, value, unit)
        }
    }

    /// A figure that must not pass `must`.
    pub(crate) fn at_most(
        figure: impl Into<String>,
        value: f64,
        unit: &'static str,
        must: f64,
    ) -> Self {
        Self {
            must: Some(must),
            better: Better::Lower,
            ..Self::info(figure, value, unit)
        }
    }

    /// The same figure with what we hope for.
    pub(crate) fn aiming_at(mut self, aim: f64) -> Self {
        self.aim = Some(aim);
        self
    }

    fn met(&self) -> bool {
        self.must.is_none_or(|must| match self.better {
            Better::Higher => self.value >= must,
            Better::Lower => self.value <= must,
        })
    }
}

/// Prints the table, writes `target/reports/NAME.json`, and fails when a must is missed.
pub(crate) fn publish(name: &str, figures: &[Figure]) -> Result<(), String> {
    let text = |value: Option<f64>| value.map_or_else(|| "-".to_owned(), number);
    println!(
        "\n{:<58} {:>14} {:<8} {:>12} {:>12}  met",
        name, "value", "unit", "must", "aim"
    );
    for figure in figures {
        let met = if figure.must.is_none() {
            "-"
        } else if figure.met() {
            "yes"
        } else {
            "NO"
        };
        let (must, aim) = (text(figure.must), text(figure.aim));
        println!(
            "{:<58} {:>14} {:<8} {must:>12} {aim:>12}  {met}",
            figure.figure,
            number(figure.value),
            figure.unit
        );
    }
    let rows: Vec<_> = figures
        .iter()
        .map(|figure| {
            json!({
                "figure": figure.figure, "value": figure.value, "unit": figure.unit,
                "must": figure.must, "aim": figure.aim, "met": figure.met(),
            })
        })
        .collect();
    let folder = shell::target().join("reports");
    let path = folder.join(format!("{name}.json"));
    fs::create_dir_all(&folder)
        .and_then(|()| fs::write(&path, format!("{:#}\n", json!({ "figures": rows }))))
        .map_err(|error| format!("writing {}: {error}", path.display()))?;
    println!("\nwritten to {}", path.display());
    let missed: Vec<_> = figures
        .iter()
        .filter(|figure| !figure.met())
        .map(|figure| figure.figure.as_str())
        .collect();
    if missed.is_empty() {
        Ok(())
    } else {
        Err(format!("missed: {}", missed.join(", ")))
    }
}

/// A number as people read it: grouped thousands, decimals only where they matter.
fn number(value: f64) -> String {
    if value.fract() != 0.0 && value.abs() < 1000.0 {
        return format!("{value:.3}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at) % 3 == 0 {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    if value < 0.0 {
        format!("-{grouped}")
    } else {
        grouped
    }
}
