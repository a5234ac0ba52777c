// Command extend is a gateway with a route, a kind of task, a tool and an HTTP handler of its own:
//
//	extend serve …      serves /ws/report/7/ and GET /reports/7 in addition to all that the gateway serves
//	extend worker …     builds reports
//
// Nothing in this program names an organization. Each function gets it with its context.
package main

import (
	"net/http"

	"orgcast"
)

func main() { orgcast.Main(extension()) }

func extension() orgcast.Extension {
	return orgcast.Extension{
		Version: "example",
		Routes: func(p orgcast.Parts) []orgcast.Route {
			newReport := func() orgcast.OrganizationAwareConsumer {
				return orgcast.JSON(report{dispatcher: p.Dispatcher, requests: p.Requests})
			}
			return []orgcast.Route{{Pattern: "/ws/report/{id:int}/", New: newReport, Explain: true}}
		},
		Handlers: func(p orgcast.Parts) map[string]http.Handler {
			return map[string]http.Handler{"GET /reports/{id}": showReport{p.Objects}}
		},
		Kinds: func(orgcast.Parts) map[string]orgcast.Kind {
			return map[string]orgcast.Kind{"report_build": {Run: build}}
		},
		Tools: func(p orgcast.Parts) map[string]orgcast.Tool {
			return map[string]orgcast.Tool{"report_url": titles{p.Objects}.url}
		},
	}
}
