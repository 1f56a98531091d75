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
    pub(crate) figures: Vec<Figure>,
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.machine)?;
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
        write!(f, "\n\naims met: {met} of {all}")
    }
}
