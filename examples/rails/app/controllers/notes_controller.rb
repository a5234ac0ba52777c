# The notes of the active organization.
class NotesController < ApplicationController
  def index; end

  def create
    Gateway::CLIENT.publish(current_user.organization, "all", { type: "note", text: params[:text] })
    redirect_to "/"
  end

  def switch
    organization = params[:organization]
    return head :forbidden unless current_user.memberships.exists?(organization: organization)

    current_user.update!(organization: organization) # first: the page reconnects at once
    Gateway.announce(type: "organization.switched", session_id: Gateway.session_name(session[:session_id]), organization_id: organization)
    redirect_to "/"
  end

  def leave
    current_user.memberships.where(organization: current_user.organization).destroy_all # the gateway finds out by itself
    redirect_to "/"
  end
end
