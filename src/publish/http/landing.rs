//! What stands at `/` where the live page is switched off: links.

/// It has neither style nor script, and says nothing of the node.
pub(super) const PAGE: &str = concat!(
    "<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n",
    "<meta name=\"viewport\" content=\"width=device-width\">\n<title>slicewatch</title>\n</head>\n<body>\n",
    "<h1>slicewatch ",
    env!("CARGO_PKG_VERSION"),
    "</h1>\n<p>What sharing a GPU really costs, by pod. The live page is off, by --web.page=false.</p>\n",
    "<ul>\n<li><a href=\"metrics\">Metrics</a> for Prometheus</li>\n",
    "<li><a href=\"api/v1/snapshot\">Snapshot</a> as JSON</li>\n",
    "<li><a href=\"-/healthy\">Health</a> and <a href=\"-/ready\">readiness</a></li>\n</ul>\n",
    "</body>\n</html>\n"
);
