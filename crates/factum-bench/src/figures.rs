//! Figures: what was measured, how often, in which unit, and what it is held against.

use std::fmt;

use serde::Serialize;

use crate::times::median;

/// The unit of a figure.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) enum Unit {
    /// A second.
    #[serde(rename = "1/s")]
    PerSecond,
    /// Milliseconds.
    #[serde(rename = "ms")]
    Millis,
    /// Microseconds.
    #[serde(rename = "µs")]
    Micros,
    /// Megabytes.
    #[serde(rename = "MB")]
    Megabytes,
    /// Percent.
    #[serde(rename = "%")]
    Percent,
    /// So many of what the name says.
    #[serde(rename = "1")]
    Count,
}

/// What a figure is held against.
#[derive(Clone, Copy, Debug, PartialEq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Aim {
    /// Not less than this.
    AtLeast(f64),
    /// Less than this.
    Below(f64),
}

impl Aim {
    /// Whether a value meets it.
    pub(crate) fn is_met(self, value: f64) -> bool {
        match self {
            Self::AtLeast(aim) => value >= aim,
            Self::Below(aim) => value < aim,
        }
    }
}

/// One figure of the table.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Figure {
    /// The measure that it belongs to, such as `64 clients`.
    pub(crate) measure: String,
    /// What it says, such as `factum` or `factum, p99`.
    pub(crate) name: String,
    pub(crate) unit: Unit,
    /// The median of all rounds.
    pub(crate) value: f64,
    /// What each round gave.
    pub(crate) rounds: Vec<f64>,
    pub(crate) aim: Option<Aim>,
    /// Whether the median meets the aim.
    pub(crate) met: Option<bool>,
}

impl Figure {
    /// A figure that was taken in some rounds.
    pub(crate) fn of(measure: &str, name: impl Into<String>, unit: Unit, rounds: Vec<f64>) -> Self {
        Self {
            measure: measure.into(),
            name: name.into(),
            unit,
            value: median(&rounds),
            rounds,
            aim: None,
            met: None,
        }
    }

    /// Held against an aim.
    pub(crate) fn aim(mut self, aim: Aim) -> Self {
        self.aim = Some(aim);
        self.met = Some(aim.is_met(self.value));
        self
    }
}

impl fmt::Display for Unit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::PerSecond => "/s",
            Self::Millis => "ms",
            Self::Micros => "µs",
            Self::Megabytes => "MB",
            Self::Percent => "%",
            Self::Count => "",
        })
    }
}

impl fmt::Display for Aim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::AtLeast(aim) => write!(f, "≥ {}", Number(*aim)),
            Self::Below(aim) => write!(f, "< {}", Number(*aim)),
        }
    }
}

/// A number with three digits that count, and commas between thousands.
pub(crate) struct Number(pub(crate) f64);

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let value = self.0;
        let plain = if value.abs() >= 100.0 || value.fract() == 0.0 {
            format!("{value:.0}")
        } else if value.abs() >= 10.0 {
            format!("{value:.1}")
        } else {
            format!("{value:.2}")
        };
        let whole = plain.find('.').unwrap_or(plain.len());
        let mut text = String::new();
        for (index, digit) in plain.chars().enumerate() {
            if index > 0 && index < whole && (whole - index).is_multiple_of(3) && digit != '-' {
                text.push(',');
            }
            text.push(digit);
        }
        f.pad(&text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_read_well() {
        let texts = [
            (1_234_567.8, "1,234,568"),
            (999.0, "999"),
            (0.1234, "0.12"),
            (25.66, "25.7"),
            (4.0, "4"),
        ];
        for (number, text) in texts {
            assert_eq!(Number(number).to_string(), text);
        }
    }

    #[test]
    fn the_median_is_held_against_the_aim() {
        let figure = |aim| {
            Figure::of("m", "n", Unit::Millis, vec![9.0, 1.0, 5.0])
                .aim(aim)
                .met
        };
        assert_eq!(figure(Aim::AtLeast(5.0)), Some(true));
        assert_eq!(figure(Aim::Below(5.0)), Some(false));
    }
}
