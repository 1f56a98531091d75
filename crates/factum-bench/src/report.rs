//! The report: the machine, and the table of all figures.

use std::fmt;

use serde::Serialize;

use crate::{
    figures::{Figure, Number},
    machine::Machine,
};

/// All that one run has found.
#[derive(Debug, Serialize)]
pub(crate) struct Report {
    pub(crate) world: &'static str,
    pub(crate) machine: Machine,
    /// The servers that were measured on.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) servers: Vec<String>,
    pub(crate) figures: Vec<Figure>,
    /// What was not measured, and why.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) left_out: Vec<String>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.machine)?;
        if !self.servers.is_empty() {
            write!(f, "\n{}", self.servers.join(", "))?;
        }
        let mut measure = "";
        for figure in &self.figures {
            if figure.measure != measure {
                measure = &figure.measure;
                write!(f, "\n\n{measure}")?;
            }
            write!(
                f,
                "\n  {:<34} {:>12} {:<2}",
                figure.name,
                Number(figure.value).to_string(),
                figure.unit
            )?;
            if let (Some(aim), Some(met)) = (figure.aim, figure.met) {
                let met = if met { "met" } else { "MISSED" };
                write!(f, "   aim {:<12} {met}", aim.to_string())?;
            }
        }
        let aims = self.figures.iter().filter_map(|figure| figure.met);
        let (all, met) = aims.fold((0, 0), |(all, met), one| (all + 1, met + usize::from(one)));
        write!(f, "\n\naims met: {met} of {all}")?;
        for left_out in &self.left_out {
            write!(f, "\nleft out: {left_out}")?;
        }
        Ok(())
    }
}
