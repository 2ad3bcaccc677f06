//! Why parts made no policy, said where they stand in the file.

use super::project::Places;
use super::routes::RoutePlace;
use crate::config::error::{Place, Reports};
use crate::policy::model::{LimitIndex, RouteIndex, ToolIndex};
use crate::policy::route::TableError;

/// Reports one fault of the whole.
pub fn report(fault: &TableError, places: &Places, reports: &mut Reports) {
    match fault {
        TableError::Duplicate {
            first,
            second,
            method,
        } => {
            duplicate(places.route(*first), places.route(*second), method, reports);
        }
        TableError::Overlap { first, second } => {
            overlap(places.route(*first), places.route(*second), reports);
        }
        TableError::Method { route, method } => {
            let at = places.route(*route);
            let message = format!("{}: {fault}", at.subject);
            reports.error(at.matched(method), message, "remove it");
        }
        // Reported, part by part of the match, when the route was read.
        TableError::Placeholder { .. } => {}
        TableError::ToolMissing { route } => {
            let at = places.route(*route);
            let message = format!("{}: {fault}", at.subject);
            reports.error(at.id, message, "name a tool that exists");
        }
        TableError::IdTwice { first, second } => {
            let (first, second) = (places.route(*first), places.route(*second));
            let line = reports.line_of(first.id);
            let message = format!("{}: this id is already on line {line}", second.subject);
            let help = "give each route of the project an id of its own";
            reports.error(second.id, message, help);
        }
        TableError::LimitTwice { first, second } => {
            let line = reports.line_of(places.limit(*first));
            let message = format!("a limit of this id is already on line {line}");
            let help = "give each limit of the project an id of its own";
            reports.error(places.limit(*second), message, help);
        }
        TableError::MountTwice { first, second } => {
            let line = reports.line_of(places.tool(*first));
            let message = format!("the tool on line {line} is already found here");
            let help = "give each tool of the project a mount or host of its own";
            reports.error(places.tool(*second), message, help);
        }
        TableError::MountReserved { tool } | TableError::MountMalformed { tool } => {
            let place = places.tool(*tool);
            reports.error(place, fault.to_string(), "mount the tool elsewhere");
        }
        // The reader of the tree has refused the second of two equal keys.
        TableError::AgentTwice { .. } => {
            reports.error(Place::default(), fault.to_string(), "keep one of the two");
        }
    }
}

fn duplicate(first: &RoutePlace, second: &RoutePlace, method: &str, reports: &mut Reports) {
    let line = reports.line_of(first.matched(method));
    reports.error(
        second.matched(method),
        format!(
            "{}: {} on line {line} already matches this",
            second.subject, first.subject
        ),
        "remove one, or tell them apart with `where`; the one without `where` comes last",
    );
}

fn overlap(first: &RoutePlace, second: &RoutePlace, reports: &mut Reports) {
    let line = reports.line_of(first.matched(""));
    reports.error(
        second.matched(""),
        format!(
            "{}: some paths match this and {} on line {line}, and neither is more specific",
            second.subject, first.subject
        ),
        "make one lie within the other: `/a/{x}` within `/{y}/{x}`, and not beside `/{y}/b`",
    );
}

impl Places {
    pub(super) fn route(&self, index: RouteIndex) -> &RoutePlace {
        &self.routes[index.0 as usize]
    }

    fn tool(&self, index: ToolIndex) -> Place {
        self.tools[index.0 as usize]
    }

    fn limit(&self, index: LimitIndex) -> Place {
        self.limits[index.0 as usize]
    }
}

impl RoutePlace {
    /// Where the part of the match with this method stands; the first, where the method does not say.
    fn matched(&self, method: &str) -> Place {
        let named = self.matches.iter().find(|part| &*part.method == method);
        let part = named.or(self.matches.first());
        part.map_or(self.id, |part| part.place)
    }
}
