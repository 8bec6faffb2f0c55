//! What a bench found: a table for people, JSON for scripts, and one page of plots.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;

use hdrhistogram::Histogram;
use plotters::prelude::*;
use serde::Serialize;

use crate::Outcome;

/// Size of a plot in pixels.
const PLOT: (u32, u32) = (760, 360);
/// Colours of the series of a plot, in their order.
const COLOURS: [RGBColor; 4] = [BLUE, RED, GREEN, MAGENTA];

/// A figure, and beside it the one that it is measured by: of the bare server, or of what the row names.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Row {
    pub(crate) scenario: String,
    pub(crate) what: String,
    pub(crate) unit: &'static str,
    pub(crate) stonechat: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) beside: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) target: Option<&'static str>,
}

impl Row {
    /// The figure that it is measured by.
    pub(crate) fn beside(&mut self, value: f64) -> &mut Self {
        self.beside = Some(value);
        self
    }

    /// What it should be.
    pub(crate) fn target(&mut self, target: &'static str) -> &mut Self {
        self.target = Some(target);
        self
    }
}

/// A line of a plot.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Series {
    pub(crate) name: String,
    pub(crate) points: Vec<(f64, f64)>,
}

/// A plot.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Plot {
    pub(crate) title: String,
    pub(crate) x: &'static str,
    pub(crate) y: &'static str,
    pub(crate) series: Vec<Series>,
}

/// Everything a bench found.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Report {
    pub(crate) rows: Vec<Row>,
    pub(crate) plots: Vec<Plot>,
}

impl Report {
    /// A figure of the server alone.
    pub(crate) fn row(&mut self, scenario: &str, what: &str, unit: &'static str, stonechat: f64) -> &mut Row {
        let (scenario, what) = (scenario.to_owned(), what.to_owned());
        self.rows.push(Row {
            scenario,
            what,
            unit,
            stonechat,
            beside: None,
            target: None,
        });
        let last = self.rows.len() - 1;
        &mut self.rows[last]
    }

    /// The 50th, 99th and 99.9th percentile of a latency in microseconds, what the 99th should be, and the distribution as a
    /// plot.
    pub(crate) fn latency(&mut self, scenario: &str, what: &str, latency: &Histogram<u64>, p99: Option<&'static str>) {
        for (name, quantile) in [("p50", 0.5), ("p99", 0.99), ("p99.9", 0.999)] {
            let value = latency.value_at_quantile(quantile) as f64 / 1_000.0;
            let row = self.row(scenario, &format!("{what} {name}"), "ms", value);
            row.target = p99.filter(|_| name == "p99");
        }
        self.distribution(format!("{scenario}: {what}, distribution"), &[(what, latency)]);
    }

    /// How latencies in microseconds are distributed, as a plot.
    pub(crate) fn distribution(&mut self, title: String, latencies: &[(&str, &Histogram<u64>)]) {
        let series = latencies.iter().map(|(name, latency)| Series {
            name: (*name).to_owned(),
            points: nines(latency),
        });
        self.plots.push(Plot {
            title,
            x: "nines (1 = p90, 2 = p99, 3 = p99.9)",
            y: "ms",
            series: series.collect(),
        });
    }

    /// Events per second over the time of a run.
    pub(crate) fn over_time(&mut self, title: String, y: &'static str, series: Vec<(String, Vec<u64>)>) {
        let points = |counts: Vec<u64>| {
            counts
                .into_iter()
                .enumerate()
                .map(|(at, count)| (at as f64, count as f64))
                .collect()
        };
        let series = series
            .into_iter()
            .map(|(name, counts)| Series {
                name,
                points: points(counts),
            })
            .collect();
        self.plots.push(Plot {
            title,
            x: "seconds",
            y,
            series,
        });
    }

    /// The table.
    pub(crate) fn table(&self) -> String {
        let mut text = String::new();
        let _ = writeln!(
            text,
            "{:<10} {:<44} {:>12} {:>12} {:>8}  target",
            "scenario", "figure", "stonechat", "beside", "ratio"
        );
        for row in &self.rows {
            let beside = row.beside.map_or_else(|| "–".to_owned(), number);
            let ratio = row
                .beside
                .map_or_else(|| "–".to_owned(), |beside| format!("{:.2}", row.stonechat / beside));
            let what = format!("{} [{}]", row.what, row.unit);
            let (own, target) = (number(row.stonechat), row.target.unwrap_or(""));
            let _ = writeln!(
                text,
                "{:<10} {what:<44} {own:>12} {beside:>12} {ratio:>8}  {target}",
                row.scenario
            );
        }
        text
    }

    /// Writes `report.json` and `report.html` into a folder.
    pub(crate) fn write(&self, folder: &Path) -> Outcome<()> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("report.json"), serde_json::to_vec_pretty(self)?)?;
        let mut page =
            String::from("<!doctype html><meta charset=\"utf-8\"><title>Stonechat load</title><h1>Stonechat load</h1>");
        let _ = write!(page, "<pre>{}</pre>", self.table());
        for plot in &self.plots {
            page.push_str(&draw(plot)?);
        }
        Ok(fs::write(folder.join("report.html"), page)?)
    }
}

/// Milliseconds over the nines of their quantile.
fn nines(latency: &Histogram<u64>) -> Vec<(f64, f64)> {
    let steps = latency.iter_quantiles(2);
    steps
        .filter(|step| step.quantile_iterated_to() < 1.0)
        .map(|step| {
            let nines = -(1.0 - step.quantile_iterated_to()).log10();
            (nines, step.value_iterated_to() as f64 / 1_000.0)
        })
        .collect()
}

fn number(value: f64) -> String {
    match value.abs() {
        large if large >= 100.0 => format!("{value:.0}"),
        middle if middle >= 1.0 => format!("{value:.2}"),
        _ => format!("{value:.4}"),
    }
}

fn draw(plot: &Plot) -> Outcome<String> {
    let mut svg = String::new();
    {
        let all = || plot.series.iter().flat_map(|series| &series.points);
        let x_max = all().map(|point| point.0).fold(1e-9, f64::max);
        let y_max = all().map(|point| point.1).fold(1e-9, f64::max);
        let area = SVGBackend::with_string(&mut svg, PLOT).into_drawing_area();
        area.fill(&WHITE)?;
        let mut builder = ChartBuilder::on(&area);
        builder
            .caption(&plot.title, ("sans-serif", 16))
            .margin(8)
            .x_label_area_size(36)
            .y_label_area_size(64);
        let mut chart = builder.build_cartesian_2d(0.0..x_max * 1.02, 0.0..y_max * 1.05)?;
        chart.configure_mesh().x_desc(plot.x).y_desc(plot.y).draw()?;
        for (at, series) in plot.series.iter().enumerate() {
            let colour = COLOURS[at % COLOURS.len()];
            let line = chart.draw_series(LineSeries::new(series.points.iter().copied(), colour))?;
            line.label(&series.name)
                .legend(move |(x, y)| PathElement::new([(x, y), (x + 16, y)], colour));
        }
        chart
            .configure_series_labels()
            .border_style(BLACK)
            .background_style(WHITE)
            .draw()?;
        area.present()?;
    }
    Ok(svg)
}
