# What all pages share.
class ApplicationController < ActionController::Base
  before_action :verify_signed_in

  helper_method def current_user
    @current_user ||= User.find_by(id: session[:user_id])
  end

  private

  def verify_signed_in
    redirect_to "/sign-in" unless current_user
  end
end
