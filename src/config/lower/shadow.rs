//! What is in shadow is said at every start, reload and check, where it is written: nobody should take a policy for
//! enforced that is not.

use super::project::Places;
use crate::config::error::{Place, Reports};
use crate::config::raw;
use crate::config::read::At;
use crate::policy::model::{Policy, Route};

/// Where `mode: shadow` is written above routes.
pub struct ShadowPlaces {
    pub project: Option<Place>,
    /// By position of the tool.
    pub tools: Vec<Option<Place>>,
}

impl ShadowPlaces {
    pub fn of(project: Option<&At<raw::Mode>>) -> Self {
        Self {
            project: shadow(project),
            tools: Vec::new(),
        }
    }

    pub fn tool(&mut self, tool: &raw::Tool) {
        self.tools.push(shadow(tool.mode.as_ref()));
    }
}

fn shadow(mode: Option<&At<raw::Mode>>) -> Option<Place> {
    mode.filter(|at| at.value == raw::Mode::Shadow)
        .map(|at| at.place)
}

/// One warning for each place that puts routes in shadow, and one for each route that is in shadow beside an enforced one
/// of the same match.
pub fn report(policy: &Policy, places: &Places, reports: &mut Reports) {
    let in_shadow = || policy.routes.iter().filter(|route| route.shadow);
    let own = |route: &&Route| places.route(route.index).mode.is_some();
    let tool = |route: &Route| places.shadow.tools[route.tool.0 as usize];
    if let Some(place) = places.shadow.project {
        let of_project = |route: &&Route| !own(route) && tool(route).is_none();
        let count = in_shadow().filter(of_project).count();
        let subject = format!("project `{}`", policy.project);
        warn(place, &subject, Some((count, policy.routes.len())), reports);
    }
    for (index, place) in places.shadow.tools.iter().enumerate() {
        let of_tool = |route: &&Route| route.tool.0 as usize == index;
        if let Some(place) = place {
            let count = in_shadow()
                .filter(of_tool)
                .filter(|route| !own(route))
                .count();
            let all = policy.routes.iter().filter(of_tool).count();
            let subject = format!("tool `{}`", policy.tools[index].name);
            warn(*place, &subject, Some((count, all)), reports);
        }
    }
    for route in in_shadow().filter(own) {
        let place = places.route(route.index);
        if let Some(at) = place.mode {
            warn(at, &place.subject, None, reports);
        }
    }
    for (first, second) in policy.table.successions() {
        let (first, second) = match (policy.route(first).shadow, policy.route(second).shadow) {
            (true, false) => (first, second),
            (false, true) => (second, first),
            (true, true) | (false, false) => continue,
        };
        let (shadowed, enforced) = (places.route(first), places.route(second));
        reports.warn(
            shadowed.mode.unwrap_or(shadowed.id),
            format!(
                "{} is in shadow and {}, of the same match, is enforced: which of them judges a call is up to what the call says",
                shadowed.subject, enforced.subject
            ),
            "give both the same `mode`; a call that neither judges is refused",
        );
    }
}

fn warn(place: Place, subject: &str, of: Option<(usize, usize)>, reports: &mut Reports) {
    let what = match of {
        None => "what the policy denies is recorded and let through".to_owned(),
        Some((count, all)) => {
            let routes = if all == 1 { "route" } else { "routes" };
            format!(
                "on {count} of its {all} {routes} what the policy denies is recorded and let through"
            )
        }
    };
    reports.warn(
        place,
        format!("{subject} is in shadow: {what}"),
        "look at `toolgate ledger query --shadow any`, then write `mode: enforce`",
    );
}
