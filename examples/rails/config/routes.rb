Notes::Application.routes.draw do
  post "/orgcast/identity", to: "identity#show"
  get "/sign-in", to: "sign_ins#new"
  post "/sign-in", to: "sign_ins#create"
  post "/sign-out", to: "sign_ins#destroy"
  root "notes#index"
  post "/notes", to: "notes#create"
  post "/switch", to: "notes#switch"
  post "/leave", to: "notes#leave"
end
